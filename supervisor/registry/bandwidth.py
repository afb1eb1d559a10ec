"""A bound on bytes per second, shared by all that go through it."""

from __future__ import annotations

import threading
import time

from supervisor.registry.deadline import Deadline

BURST_SECONDS = 0.1


class Bandwidth:
    """Lets `rate` bytes per second pass, 0 for any number; callable from any thread."""

    def __init__(self, rate: float = 0.0) -> None:
        """Bound the bytes of all callers together to `rate` per second."""
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def piece(self, wanted: int) -> int:
        """How many of `wanted` bytes to move at a time, so that the flow is even."""
        if not self._rate:
            return wanted
        return max(1, min(wanted, int(self._rate * BURST_SECONDS)))

    def take(self, count: int, deadline: Deadline) -> None:
        """Account for `count` bytes that were moved, and wait until they fit; raises as Deadline.sleep."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - BURST_SECONDS) + count / self._rate
            wait = self._free_at - now
        if wait > 0:
            deadline.sleep(wait)
