"""Killing a daemon at a system call of its own choice: between any two steps, without a word in its code.

strace injects SIGKILL at the N-th call, of those by which steps become visible outside, of any thread
of the daemon. Counting N up goes through a cycle step by step, where delays would hit at random.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.compat.ctr import eventually
from tests.compat.target import Target

STEPS = "pwrite64,fdatasync,mkdir,rename,unlink,unlinkat,rmdir,symlink,sendto,sendmsg,umount2"
"""What makes a step: a page of the store, its commit, files and folders, messages to others."""


def missing() -> str:
    """Why steps cannot be taken on this machine; empty when they can."""
    return "" if shutil.which("strace") else "no strace: apt-get install strace"


@contextmanager
def killed_at(target: Target, step: int) -> Iterator[None]:
    """Have the running daemon killed at its `step`-th call, counted for each thread from now on."""
    assert target.process is not None
    threads = [word for tid in os.listdir(f"/proc/{target.process.pid}/task") for word in ("-p", tid)]
    inject = f"inject={STEPS}:signal=SIGKILL:when={step}"
    command = ["strace", "-e", f"trace={STEPS}", "-e", inject, "-o", "/dev/null", *threads]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
        try:
            eventually(lambda: strace.poll() is not None or _is_traced(target), what="strace to be attached")
            yield
        finally:
            # Not SIGTERM: of a process whose leader died first, strace waits for ever.
            strace.kill()


def _is_traced(target: Target) -> bool:
    """Whether every thread is under strace; one that has died of it counts."""
    assert target.process is not None
    statuses = Path(f"/proc/{target.process.pid}/task").glob("*/status")
    try:
        return all("TracerPid:\t0" not in path.read_text() for path in statuses)
    except OSError:
        return True
