"""How long the runtime's commands may take on behalf of the present call (contract: tasks 7.1).

Each call is worked on in a thread of its own, so its limit belongs to the thread. What has to be
done although a call has used up its time, undoing it for example, is given a limit of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

CLEANUP_SECONDS = 5.0

_SHARE, _MOST_SPARED = 0.1, 1.0  # of a call's time, seconds: for the answer to arrive within it

_present = threading.local()


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Let commands that this thread runs in the body take so long in all; None for no limit."""
    before = getattr(_present, "until", None)
    _present.until = None if seconds is None else time.monotonic() + seconds
    try:
        yield
    finally:
        _present.until = before


def remaining() -> float | None:
    """Seconds left to this thread, never below zero; None without a limit."""
    until = getattr(_present, "until", None)
    return None if until is None else max(0.0, until - time.monotonic())


def ahead_of(deadline: float | None) -> float | None:
    """A limit that leaves time to tell the caller, who waits for `deadline` seconds, that it was hit."""
    return None if deadline is None else deadline - min(_MOST_SPARED, deadline * _SHARE)
