"""Moves of processes between cgroups without their wait (kernel/cgroup/cgroup.c, kernel/rcu/sync.c).

The kernel lets a process be moved only while none forks, and for that waits until every processor has
taken notice: a grace period of RCU, 5 to 20 ms, in which a runtime that creates a container does nothing
else. After a move the way is kept open for a moment, and the next one does not wait. So whoever will soon
have a runtime make a process moves itself, to where it is: the wait is over by the time the runtime comes
to it. A host mounted with `favordynmods` has no such wait at all, at a price for each fork.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from supervisor.kernel.cgroup import UNIFIED, cgroup_of

_MEMBERSHIP = Path("/proc/self/cgroup")
_MEMBERS = "cgroup.procs"
_SELF = b"0"

_moving = threading.Lock()


def expect_move() -> None:
    """Wait now for what the next move would wait for; does nothing while another thread does.

    A supervisor that may not move itself has slower starts and no other harm.
    """
    if not _moving.acquire(blocking=False):
        return
    try:
        with suppress(OSError):
            _stay()
    finally:
        _moving.release()


def _stay() -> None:
    """Move this process to the cgroup it is in: the lock is one for all hierarchies, so any will do."""
    folder = _folder(_MEMBERSHIP.read_bytes())
    if folder is None:
        return
    members = os.open(f"{folder}/{_MEMBERS}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(members, _SELF)
    finally:
        os.close(members)


@lru_cache(maxsize=1)
def _folder(membership: bytes) -> str | None:
    """The folder of one of this process's cgroups. It is looked for anew when the `membership` is another."""
    folders = cgroup_of(os.getpid()).folders
    return folders.get(UNIFIED) or next(iter(folders.values()), None)
