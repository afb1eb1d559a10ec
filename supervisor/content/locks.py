"""Two kinds of locks by name: one that waits, for digests, and one that refuses, for refs.

They live in the daemon's memory: only one daemon has a root (supervisor.daemon locks it), and a
lock that dies with its process needs nobody to clear it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from supervisor.errors import Unavailable
from supervisor.model import instant
from supervisor.model.instant import Nanoseconds

CHECK_SECONDS = 0.2
"""How often one that waits looks whether it still wants to."""


@dataclass(slots=True)
class _Waiting:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class WaitingLocks:
    """Mutual exclusion per name; a name nobody uses takes no memory."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._entries: dict[str, _Waiting] = {}

    @contextmanager
    def holding(self, name: str, check: Callable[[], object] | None = None) -> Iterator[None]:
        """Wait until nobody else holds `name`, and hold it; `check` raises to wait no longer."""
        entry = self._enter(name)
        try:
            while not entry.lock.acquire(timeout=CHECK_SECONDS if check else -1):
                if check:
                    check()
            try:
                yield
            finally:
                entry.lock.release()
        finally:
            self._leave(name, entry)

    def _enter(self, name: str) -> _Waiting:
        with self._guard:
            entry = self._entries.setdefault(name, _Waiting())
            entry.users += 1
            return entry

    def _leave(self, name: str, entry: _Waiting) -> None:
        with self._guard:
            entry.users -= 1
            if not entry.users:
                del self._entries[name]


class RefusingLocks:
    """A ref is open in one place only; the second one is told since when.

    containerd's clients go on retrying for this code, and for no other (contract 6.3).
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._since: dict[str, Nanoseconds] = {}

    def acquire(self, ref: str) -> None:
        """Take `ref`, or raise Unavailable."""
        with self._guard:
            since = self._since.get(ref)
            if since is None:
                self._since[ref] = instant.now()
                return
        age = (instant.now() - since) / instant.SECOND
        raise Unavailable(f"ref {ref} locked for {age:.3f}s (since {instant.format_rfc3339(since)})")

    def release(self, ref: str) -> None:
        """Give `ref` back."""
        with self._guard:
            del self._since[ref]
