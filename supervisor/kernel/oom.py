"""Learning that the kernel has killed for want of memory (containerd: pkg/oom, v1 and v2).

Both versions wake a descriptor: v1 through an eventfd that is entered at memory.oom_control, v2
through inotify on memory.events. Being woken is not proof: v1 wakes before it kills, many times for
one kill, and when the cgroup is removed; v2 wakes for other events as well, and late. So what counts
is the kernel's own number of kills, which it raises before the process dies.
"""

from __future__ import annotations

import os
from contextlib import suppress

from supervisor.kernel import libc
from supervisor.kernel.cgroup import Cgroup

_IN_MODIFY = 0x2
_READ_SIZE = 4096


class OomWatch:
    """Watches one cgroup until `close`; `descriptor` becomes readable when it is worth asking."""

    def __init__(self, cgroup: Cgroup, descriptor: int, figures: tuple[int, int]) -> None:
        """Go on with a `descriptor` that `opened` has answered, and with what it saw, here or elsewhere."""
        self._cgroup = cgroup
        self._file = _file_of(cgroup)
        self._kills, self._waits = figures
        self.descriptor = descriptor

    @classmethod
    def on(cls, cgroup: Cgroup) -> OomWatch:
        """Begin to watch; raises OSError where memory is not controlled."""
        return cls(cgroup, *opened(cgroup))

    def happened(self) -> bool:
        """Whether the kernel has killed since this was last asked, or lets processes wait for memory."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, _READ_SIZE)
        kills, waits = _figures(self._cgroup, self._file)
        news = kills > self._kills or waits > self._waits
        self._kills, self._waits = kills, waits
        return news

    @property
    def is_early(self) -> bool:
        """Whether the descriptor wakes before the kill has been counted, so that one must ask again."""
        return not self._cgroup.is_unified

    def close(self) -> None:
        """Stop watching."""
        os.close(self.descriptor)


def opened(cgroup: Cgroup) -> tuple[int, tuple[int, int]]:
    """A descriptor that tells of want of memory, and the figures as they are; raises OSError."""
    folder = cgroup.folder("memory")
    if folder is None:
        raise FileNotFoundError("no memory controller is mounted")
    file = _file_of(cgroup)
    figures = _figures(cgroup, file)
    path = f"{folder}/{file}"
    if cgroup.is_unified:
        return libc.inotify(path, _IN_MODIFY), figures
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        _enter_event(folder, descriptor, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, figures


def _file_of(cgroup: Cgroup) -> str:
    return "memory.events" if cgroup.is_unified else "memory.oom_control"


def _figures(cgroup: Cgroup, file: str) -> tuple[int, int]:
    """How many were killed, and 1 while some wait because killing is switched off."""
    figures = cgroup.table("memory", file)
    return figures.get("oom_kill", 0), figures.get("under_oom", 0) & figures.get("oom_kill_disable", 0)


def _enter_event(folder: str, eventfd: int, path: str) -> None:
    watched = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with open(f"{folder}/cgroup.event_control", "w", encoding="utf-8") as control:
            control.write(f"{eventfd} {watched}")
    finally:
        os.close(watched)
