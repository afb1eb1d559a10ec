"""Exits of children: the one place that waits (containerd: pkg/sys/reaper).

The shim is a subreaper, so its children are its own forks, and the containers' processes, which the
runtime leaves to it and whose pid it learns only after they may have ended. `waitpid(-1)` therefore
runs in one place, and an exit of a pid that nobody has claimed yet is kept while a start is under way.

A pid is only signalled while it is known not to have been reaped: its number cannot have gone to
another process.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from supervisor.kernel.process import exit_code
from supervisor.model.instant import Nanoseconds, now
from supervisor.model.record import record


@record
class Exit:
    """How a process ended: its exit code, or 128 and the signal; and when that was seen.

    A program may exit with such a code itself: only `signal`, 0 for none, tells the two apart.
    """

    status: int
    at: Nanoseconds
    signal: int = 0


Told = Callable[[Exit], None]


class Expecting:
    """A context that may be entered again while it lasts; at its end what nobody has claimed is dropped."""

    def __init__(self, unclaimed: dict[int, Exit]) -> None:
        self.starts_under_way = 0
        self._unclaimed = unclaimed

    def __enter__(self) -> None:
        self.starts_under_way += 1

    def __exit__(self, *_: object) -> None:
        self.starts_under_way -= 1
        if not self.starts_under_way:
            self._unclaimed.clear()


class Reaper:
    """Claims and collects."""

    def __init__(self) -> None:
        self._living: dict[int, Told] = {}
        self._unclaimed: dict[int, Exit] = {}
        self.expecting = Expecting(self._unclaimed)
        """Within it the exits of unknown processes are kept, because one of them will be claimed."""

    def claim(self, pid: int, told: Told) -> None:
        """Have the exit of a child told; at once if it has come already, of an adopted one `expecting`."""
        early = self._unclaimed.pop(pid, None)
        if early is None:
            self._living[pid] = told
        else:
            told(early)

    def kill(self, pid: int, signal_number: int) -> bool:
        """Signal a process that was claimed and has not been reaped; False if it is gone. Raises OSError."""
        if pid not in self._living:
            return False
        os.kill(pid, signal_number)
        return True

    def collect(self) -> None:
        """Reap all that has ended and tell whom it concerns; the loop calls this upon SIGCHLD."""
        while (ended := _next_exit()) is not None:
            self.collected(*ended)

    def collected(self, pid: int, exit_: Exit) -> None:
        """Tell of one that has been reaped."""
        told = self._living.pop(pid, None)
        if told is not None:
            told(exit_)
        elif self.expecting.starts_under_way:
            self._unclaimed[pid] = exit_


def _next_exit() -> tuple[int, Exit] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    if not pid:
        return None
    code = os.waitstatus_to_exitcode(status)
    return pid, Exit(exit_code(code), now(), max(0, -code))
