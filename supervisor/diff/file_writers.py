"""Files made beside the reading of an archive: what takes long is the kernel making inodes, one at a time.

Most files of a layer are small. Their bytes are read, and a few threads make them while the archive is
read on. Whoever needs a path to be there, or gone, asks for it by `settled` first.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from supervisor.diff.entry import Entry
from supervisor.errors import SupervisorError

MAX_FILE_BYTES = 1 << 20
"""Larger files are made by the reader itself."""

MAX_WAITING = 256
"""Files that wait at most; what they hold is bounded by it."""

MAX_WAITING_BYTES = 32 << 20
THREADS = min(4, os.cpu_count() or 1)

Make = Callable[[Entry, bytes, bytes], None]
"""Makes the file of an entry at a path, with these bytes; raises OSError or SupervisorError."""

T = TypeVar("T")


class FileWriters:
    """Threads that make files, in no order; ended by `close`."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._changed = threading.Condition()
        self._pending: set[bytes] = set()
        self._bytes = 0
        self._error: BaseException | None = None
        self._jobs: queue.SimpleQueue[tuple[Entry, bytes, bytes] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, entry: Entry, path: bytes, data: bytes) -> None:
        """Have a file made; nothing may be at its path. Raises what making another one failed with."""
        if not self._threads:
            self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(THREADS)]
            for thread in self._threads:
                thread.start()
        with self._changed:
            self._changed.wait_for(self._has_room)
            self._check()
            self._pending.add(path)
            self._bytes += len(data)
        self._jobs.put((entry, path, data))

    def settled(self, path: bytes) -> None:
        """Wait until the file at `path` is made, if it is being made."""
        if path in self._pending:
            self.settle()

    def settle(self) -> None:
        """Wait until all files are made; raises what making one failed with."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending)
            self._check()

    def close(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _has_room(self) -> bool:
        return len(self._pending) < MAX_WAITING and self._bytes < MAX_WAITING_BYTES

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            entry, path, data = job
            error = self._try(entry, path, data)
            with self._changed:
                self._error = self._error or error
                self._pending.discard(path)
                self._bytes -= len(data)
                self._changed.notify_all()

    def _try(self, entry: Entry, path: bytes, data: bytes) -> BaseException | None:
        if self._error is not None:
            return None  # the layer has failed already
        try:
            self._make(entry, path, data)
        except OSError as error:
            return SupervisorError(f"unpack {entry.kind.value} {entry.shown()}: {error.strerror}")
        except Exception as error:
            return error
        return None
