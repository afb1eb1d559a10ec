"""The time a transfer has, and the way to end it sooner."""

from __future__ import annotations

import threading
import time

from supervisor.errors import Cancelled, DeadlineExceeded


class Deadline:
    """A span of time that begins now; without seconds it has no end. Callable from any thread."""

    def __init__(self, seconds: float = 0.0) -> None:
        """Let `seconds` pass from now on, 0 for any number of them."""
        self._seconds = seconds
        self._ends = time.monotonic() + seconds if seconds > 0 else float("inf")
        self._cancelled = threading.Event()

    def remaining(self) -> float:
        """Seconds that are left, never negative; infinite without an end."""
        return max(0.0, self._ends - time.monotonic())

    def check(self) -> None:
        """Raise DeadlineExceeded or Cancelled when there is no more time."""
        if self._cancelled.is_set():
            raise Cancelled("the transfer was given up")
        if not self.remaining():
            raise DeadlineExceeded(f"the transfer took longer than {self._seconds:g} s")

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end; raises as `check`."""
        self._cancelled.wait(min(seconds, self.remaining()))
        self.check()

    def cancel(self) -> None:
        """Let everybody who checks or sleeps raise Cancelled."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody has given up."""
        return self._cancelled.is_set()
