"""Children and their exits: the one place that waits (containerd: pkg/sys/reaper).

The shim is a subreaper, so its children are the runtime's commands, which it starts, and the
containers' processes, which are orphaned to it and whose pid it reads from a file only after they
may have ended. `waitpid(-1)` therefore runs in one place, and an exit of a pid that nobody has
claimed yet is kept while a start is under way.

A pid is only signalled under the lock, while it is known not to have been reaped: its number
cannot have gone to another process.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from supervisor.model.instant import Nanoseconds, now
from supervisor.shimv2.runc.spawn import spawn


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its exit code, or 128 and the signal; and when that was seen.

    A program may exit with such a code itself: only `signal`, 0 for none, tells the two apart.
    """

    status: int
    at: Nanoseconds
    signal: int = 0


Told = Callable[[Exit], None]


class Child:
    """A program that this process started."""

    def __init__(self, pid: int, reaper: Reaper) -> None:
        self.pid = pid
        self.exited: Future[Exit] = Future()
        self._reaper = reaper

    def wait(self, seconds: float | None = None) -> Exit | None:
        """Wait for its end, from any thread but the reaper's; None when the time ran out."""
        try:
            return self.exited.result(seconds)
        except TimeoutError:
            return None

    def kill(self, signal_number: int) -> bool:
        """Signal it unless it has ended; False when it has."""
        return self._reaper.kill(self.pid, signal_number)

    def kill_group(self) -> None:
        """Kill it together with what it has started, unless it has ended; and wait for its end."""
        self._reaper.kill(-self.pid, signal.SIGKILL)
        self.wait()


class Reaper:
    """Spawns, claims and collects. All methods but `collect` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._living: dict[int, Told] = {}
        self._unclaimed: dict[int, Exit] = {}
        self._starts_under_way = 0

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        descriptors: Mapping[int, int],
    ) -> Child:
        """Start a program; raises OSError. Its exit goes to the answered Child."""
        with self._lock:
            child = Child(spawn(argv, env=env, descriptors=descriptors), self)
            self._living[child.pid] = child.exited.set_result
            return child

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Keep the exits of unknown processes meanwhile, because one of them will be claimed."""
        with self._lock:
            self._starts_under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._starts_under_way -= 1
                if not self._starts_under_way:
                    self._unclaimed.clear()

    def claim(self, pid: int, told: Told) -> None:
        """Have the exit of an adopted process told; at once if it has come already. Within `expecting`."""
        with self._lock:
            early = self._unclaimed.pop(pid, None)
            if early is None:
                self._living[pid] = told
        if early is not None:
            told(early)

    def kill(self, pid: int, signal_number: int) -> bool:
        """Signal a process that was spawned or claimed and has not been reaped; False if it is gone.

        As for kill(2), a negative pid means the process group that this process leads.
        """
        with self._lock:
            if abs(pid) not in self._living:
                return False
            os.kill(pid, signal_number)
            return True

    def collect(self) -> None:
        """Reap all that has ended and tell whom it concerns; the loop calls this upon SIGCHLD."""
        while True:
            with self._lock:
                pid, exit_ = _next_exit()
                if exit_ is None:
                    return
                told = self._living.pop(pid, None)
                if told is None and self._starts_under_way:
                    self._unclaimed[pid] = exit_
            if told is not None:
                told(exit_)


def _next_exit() -> tuple[int, Exit | None]:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, None
    if not pid:
        return 0, None
    code = os.waitstatus_to_exitcode(status)
    return pid, Exit(code if code >= 0 else 128 - code, now(), max(0, -code))
