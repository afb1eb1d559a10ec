"""The thread that writes a log, in a process of the log's own (no counterpart in containerd).

Whatever the disk does, it does to this thread. It tries again until a write succeeds; meanwhile what
comes is kept up to a bound, and beyond that refused or dropped. What is dropped is counted in its
place in the queue, and becomes a line of the log there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from supervisor.model.instant import Nanoseconds, format_rfc3339, now
from supervisor.shimv2.runc import log
from supervisor.shimv2.runc.logfile import LogFile
from supervisor.shimv2.runc.logoptions import LogOptions

_PAUSE = 0.2  # seconds between attempts


@dataclass(slots=True)
class _Lost:
    """Bytes that were dropped one after the other."""

    count: int
    first: Nanoseconds
    last: Nanoseconds

    def line(self) -> bytes:
        span = f"from {format_rfc3339(self.first)} to {format_rfc3339(self.last)}"
        return (
            f"[container-supervisor: {self.count} bytes dropped {span}, the disk did not keep up]\n".encode()
        )


class LogWriter:
    """Writes what `offer` takes, in order; `has_room` is called after a refusal, `ended` at the end."""

    def __init__(
        self, options: LogOptions, *, has_room: Callable[[], None], ended: Callable[[], None]
    ) -> None:
        """Open the log; raises OSError."""
        self._options = options
        self._has_room = has_room
        self._ended = ended
        self._file = LogFile(options)
        self._changed = threading.Condition()
        self._queue: deque[memoryview | _Lost] = deque()
        self._waiting = 0
        self._refused = False
        self._finished = False
        self._given_up = False
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def offer(self, data: bytes) -> bool:
        """Take `data`, or drop it if that is wanted; False when it has to be offered again."""
        with self._changed:
            # A first piece is always taken, however great.
            if self._waiting and self._waiting + len(data) > self._options.buffer_size:
                if not self._options.drops:
                    self._refused = True
                    return False
                self._drop(len(data))
                return True
            self._queue.append(memoryview(data))
            self._waiting += len(data)
            self._changed.notify()
            return True

    def finish(self) -> None:
        """Nothing more will be offered: end when all is written."""
        with self._changed:
            self._finished = True
            self._changed.notify()

    def give_up(self) -> None:
        """End without trying any further."""
        with self._changed:
            self._finished = self._given_up = True
            self._changed.notify()

    def _drop(self, count: int) -> None:
        last = self._queue[-1] if self._queue else None
        if isinstance(last, _Lost):
            last.count, last.last = last.count + count, now()
        else:
            self._queue.append(_Lost(count, now(), now()))

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                if isinstance(item, _Lost):
                    # Its count still rises while it is the last; so it leaves the queue first.
                    self._write(memoryview((b"\n" if self._file.in_line else b"") + item.line()))
                else:
                    self._write(item)
                    self._done_with(item)
        finally:
            self._file.close()
            self._ended()

    def _next(self) -> memoryview | _Lost | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._queue) or self._finished)
            if self._given_up and self._waiting:
                log.error("%d bytes of output were not written to %s", self._waiting, self._options.path)
            return self._queue.popleft() if self._queue and not self._given_up else None

    def _write(self, data: memoryview) -> None:
        said = False
        while data and not self._given_up:
            try:
                data = data[self._file.write(data) :]
            except OSError as error:
                if not said:
                    log.error("write the log %s: %s; trying again", self._options.path, error)
                said = True
                with self._changed:
                    self._changed.wait_for(lambda: self._given_up, _PAUSE)

    def _done_with(self, item: memoryview) -> None:
        with self._changed:
            self._waiting -= len(item)
            refused, self._refused = self._refused, False
        if refused:
            with suppress(RuntimeError):
                self._has_room()
