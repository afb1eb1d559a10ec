"""How long the runtime's commands may take on behalf of the present call (contract: tasks 7.1).

Each call is worked on in a child of its own, so its limit belongs to the process. What has to be
done although a call has used up its time, undoing it for example, is given a limit of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

CLEANUP_SECONDS = 5.0

_SHARE, _MOST_SPARED = 0.1, 1.0  # of a call's time, seconds: for the answer to arrive within it

_until: float | None = None


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Let commands that are run in the body take so long in all; None for no limit."""
    global _until
    before, _until = _until, None if seconds is None else time.monotonic() + seconds
    try:
        yield
    finally:
        _until = before


def remaining() -> float | None:
    """Seconds left, never below zero; None without a limit."""
    return None if _until is None else max(0.0, _until - time.monotonic())


def ahead_of(deadline: float | None) -> float | None:
    """A limit that leaves time to tell the caller, who waits for `deadline` seconds, that it was hit."""
    return None if deadline is None else deadline - min(_MOST_SPARED, deadline * _SHARE)
