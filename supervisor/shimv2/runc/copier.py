"""Moving bytes between a process's pipes and its client's fifos, within the loop (containerd: process/io.go).

Between two pipes the kernel moves the pages (splice); a file or a terminal at either end needs a
buffer. A copier waits for its source or for its sink, never for both, so a reader that hangs costs
nothing and stops nobody else. At most `BURST` moves are made at a time, for the sake of the others.

A sink that stays full stops the process that writes, which is the rule of pipes. A copier that
`drops` gives up waiting after `PATIENCE` seconds and throws away what comes, until there is room again.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Callable
from enum import Enum

from supervisor.shimv2.runc import log
from supervisor.shimv2.runc.loop import READ, WRITE, Loop, Timer

BURST = 64
CHUNK = 64 << 10
PATIENCE = 1.0


class Moved(Enum):
    """What one attempt to move bytes came to."""

    SOME = "some"
    SOURCE_EMPTY = "source empty"
    SINK_FULL = "sink full"
    ENDED = "ended"


class Copier:
    """Copies from `source` to `sink` until the source ends; then, or when stopped, calls `ended` once.

    It owns neither descriptor: `ended` closes them. Made and used in the loop's thread only.
    """

    def __init__(
        self, loop: Loop, source: int, sink: int, ended: Callable[[], None], *, drops: bool = False
    ) -> None:
        self._loop = loop
        self._source = source
        self._sink = sink
        self._ended = ended
        self._drops = drops
        self._stalled_at: float | None = None
        self._timer: Timer | None = None
        self._dropping = False
        self._dropped = 0
        self._watched: int | None = None
        self._over = False

    def start(self) -> None:
        """Begin copying."""
        self._ready(0)

    def stop(self) -> None:
        """Give up what has not been copied."""
        if not self._over:
            self._over = True
            self._watch(None, 0)
            self._end_stall()
            if self._timer is not None:
                self._timer.cancel()
            self._ended()

    def _ready(self, _mask: int) -> None:
        for _ in range(BURST):
            if self._over:
                return
            match self._discard_or_move():
                case Moved.SOURCE_EMPTY:
                    self._watch(self._source, READ)
                    return
                case Moved.SINK_FULL:
                    self.await_sink()
                    return
                case Moved.ENDED:
                    self.stop()
        self._go_on()

    def await_sink(self) -> None:
        """Come back when the sink has room."""
        self._watch(self._sink, WRITE)
        if self._drops and self._stalled_at is None:
            self._stalled_at = time.monotonic()
            if self._timer is None:
                self._look_again_in(PATIENCE)

    def _look_again_in(self, seconds: float) -> None:
        self._timer = self._loop.after(seconds, self._time_up)

    def _time_up(self) -> None:
        self._timer = None
        if self._stalled_at is None or self._over:
            return
        rest = self._stalled_at + PATIENCE - time.monotonic()
        if rest > 0:
            self._look_again_in(rest)
        else:
            self._dropping = True
            self._watch(None, 0)
            self._ready(0)

    def _discard_or_move(self) -> Moved:
        if self._dropping and not _has_room(self._sink):
            return self.discard()
        moved = self.move()
        if moved is Moved.SOME and self._stalled_at is not None:
            self._end_stall()
        return moved

    def _end_stall(self) -> None:
        self._stalled_at = None
        self._dropping = False
        if self._dropped:
            log.warning("%d bytes of output were dropped, since nobody read them", self._dropped)
        self._dropped = 0

    def _go_on(self) -> None:
        """Come back after the others' turn: at once where what is watched is sure to be ready."""
        if self._watched is None:
            self._loop.call(self._again)

    def _again(self) -> None:
        if not self._over:
            self._ready(0)

    def _watch(self, descriptor: int | None, mask: int) -> None:
        if descriptor == self._watched:
            return
        if self._watched is not None:
            self._loop.forget(self._watched)
        self._watched = None
        if descriptor is not None and self._loop.watch(descriptor, mask, self._ready):
            self._watched = descriptor
        elif descriptor is not None:
            self._go_on()

    def move(self) -> Moved:
        """Move what can be moved without waiting."""
        raise NotImplementedError

    def discard(self) -> Moved:
        """Throw away what can be read without waiting, and count it."""
        try:
            data = os.read(self._source, CHUNK)
        except BlockingIOError:
            return Moved.SOURCE_EMPTY
        self._dropped += len(data)
        return Moved.SOME if data else Moved.ENDED


class SpliceCopier(Copier):
    """From pipe to pipe, without the bytes passing through this process."""

    def move(self) -> Moved:
        """One splice. EAGAIN does not tell which side it means, so the sink is asked."""
        try:
            return Moved.SOME if os.splice(self._source, self._sink, CHUNK) else Moved.ENDED
        except BlockingIOError:
            return Moved.SOURCE_EMPTY if _has_room(self._sink) else Moved.SINK_FULL
        except BrokenPipeError:
            return Moved.ENDED


class BufferCopier(Copier):
    """Between any two descriptors."""

    _pending = memoryview(b"")

    def discard(self) -> Moved:
        """As for others, what has been read already included."""
        try:
            data = self.read()
        except BlockingIOError:
            return Moved.SOURCE_EMPTY
        self._dropped += len(data) + len(self._pending)
        self._pending = memoryview(b"")
        return Moved.SOME if data else Moved.ENDED

    def move(self) -> Moved:
        """One write of what is pending, after one read if nothing is."""
        if not self._pending:
            try:
                self._pending = memoryview(self.read())
            except BlockingIOError:
                return Moved.SOURCE_EMPTY
            if not self._pending:
                return Moved.ENDED
        return self._write()

    def read(self) -> bytes:
        """Some bytes of the source, empty at its end; raises BlockingIOError when there are none yet."""
        return os.read(self._source, CHUNK)

    def _write(self) -> Moved:
        try:
            self._pending = self._pending[os.write(self._sink, self._pending) :]
        except BlockingIOError:
            return Moved.SINK_FULL
        except BrokenPipeError:
            return Moved.ENDED
        except OSError as error:
            # A full disk must not stop the container; what it cannot take is lost, and said so.
            log.error("%d bytes of output were lost: %s", len(self._pending), error)
            self._pending = memoryview(b"")
        return Moved.SOME


class TerminalReader(BufferCopier):
    """From a terminal's master side. `reopen` makes sure that somebody has its other side open."""

    def __init__(
        self,
        loop: Loop,
        source: int,
        sink: int,
        ended: Callable[[], None],
        reopen: Callable[[], bool],
        *,
        drops: bool = False,
    ) -> None:
        super().__init__(loop, source, sink, ended, drops=drops)
        self._reopen = reopen
        self._finishing = False

    def finish(self) -> None:
        """End as soon as everything that has been printed so far is passed on."""
        self._finishing = True
        self._again()

    def read(self) -> bytes:
        """As for others, but EIO says that no one has the other side open: the end, unless it is reopened."""
        try:
            return os.read(self._source, CHUNK)
        except BlockingIOError:
            if not self._finishing:
                raise
            return b""
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        if self._finishing or not self._reopen():
            return b""
        raise BlockingIOError


def _has_room(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    return bool(poller.poll(0))


def copier_for(
    loop: Loop, source: int, sink: int, ended: Callable[[], None], *, drops: bool = False
) -> Copier:
    """The copier that suits the two descriptors."""
    both_pipes = _is_pipe(source) and _is_pipe(sink)
    return (SpliceCopier if both_pipes else BufferCopier)(loop, source, sink, ended, drops=drops)


def _is_pipe(descriptor: int) -> bool:
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
