"""A network and a view of the mounts of a test's own: an engine in it touches nothing of the machine's.

dockerd makes a bridge, rules of the packet filter and mounts, and writes below /etc/docker and
/run/docker. In here all of that goes with the last process.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COVERED = (Path("/etc/docker"), Path("/run/docker"))
"""Folders that dockerd writes to whatever it is told; empty in here."""

_HOLD = (
    "mount -t tmpfs tmpfs /etc/docker && mount -t tmpfs tmpfs /run/docker && ip link set lo up && echo && cat"
)


@dataclass(frozen=True, slots=True)
class World:
    """Namespaces that exist as long as one process in them."""

    pid: int

    @property
    def within(self) -> list[str]:
        """What stands in front of a command that is to run in here."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount"]

    @property
    def mounts(self) -> Path:
        """The table of its mounts."""
        return Path(f"/proc/{self.pid}/mounts")

    def out(self, *words: str) -> str:
        """What a command that succeeds in here prints."""
        answer = subprocess.run(
            [*self.within, *words], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
        )
        assert answer.returncode == 0, f"{words}: {answer.returncode}: {answer.stderr}{answer.stdout}"
        return answer.stdout


@contextmanager
def a_world() -> Iterator[World]:
    """A world with nothing but a loopback interface."""
    made = [folder for folder in COVERED if not folder.exists()]
    for folder in made:
        folder.mkdir()
    holder = ["unshare", "--net", "--mount", "--propagation=private", "sh", "-c", _HOLD]
    try:
        with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n", "no namespaces to be had"
            try:
                yield World(process.pid)
            finally:
                process.kill()
    finally:
        for folder in made:
            folder.rmdir()
