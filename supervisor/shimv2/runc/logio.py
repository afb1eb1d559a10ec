"""Output into a log that is rotated and never stops the container (no counterpart in containerd).

A child of the shim reads the container's pipes and hands the bytes to the log's writer, which waits for
the disk in a thread: so whatever the disk does, it does not do to the shim. Should the child be killed,
the pipes are still held, and another one goes on. Imported when a client asks for such a log.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from functools import partial

from supervisor.errors import SupervisorError
from supervisor.shimv2.runc import log
from supervisor.shimv2.runc.copier import CHUNK, Copier, Moved
from supervisor.shimv2.runc.forks import Fork, Forks
from supervisor.shimv2.runc.logoptions import LogOptions, log_options
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.stdio import CopiedIO
from supervisor.shimv2.runc.wiring import Line, Wiring

AGAIN_SECONDS = 1.0
"""Until a writer that was killed is replaced."""


class LogIO(CopiedIO):
    """Both outputs into one log; the input as with CopiedIO."""

    def __init__(self, loop: Loop, wiring: Wiring, forks: Forks) -> None:
        self._forks = forks
        self._uri = wiring.log
        self._sources = [line[0] for line in wiring.outputs]
        self._writer: Fork | None = None
        self._closing = False
        super().__init__(loop, wiring)

    def begin(self) -> None:
        """As CopiedIO."""
        self._write()
        super().begin()

    def copiers(self, wiring: Wiring) -> list[Copier]:
        """As CopiedIO: the outputs are the writer's."""
        return [self.input(wiring.stdin)] if wiring.stdin else []

    def close(self) -> None:
        """As CopiedIO; a writer that still waits for the disk gives up."""
        self._closing = True
        if self._writer is not None:
            self._writer.kill(signal.SIGTERM)
        super().close()

    async def ended(self) -> None:
        """As ProcessIO."""
        if self._writer is not None:
            await self.loop.settled(self._writer.answered, AGAIN_SECONDS)
            self._writer.kill()

    def _write(self) -> None:
        if self._closing:
            return
        self._writer = self._forks.start(partial(write_log, self._uri, self._sources), self._sources)
        self._writer.answered.then(lambda done: self._written(done.result))

    def _written(self, result: Callable[[], object]) -> None:
        try:
            result()
        except SupervisorError as error:
            log.error("the log %s is not written, trying again: %s", self._uri, error)
            self.loop.after(AGAIN_SECONDS, self._write)
        else:
            self.owned.close(*self._sources)
            self.settle_drained()


class LogCopier(Copier):
    """From a pipe to the writer."""

    def __init__(
        self, loop: Loop, source: int, offer: Callable[[bytes], bool], ended: Callable[[], None]
    ) -> None:
        super().__init__(loop, source, -1, ended)
        self._offer = offer
        self._refused = b""

    def resume(self) -> None:
        """Go on after a refusal."""
        if self._refused:
            self._again()

    def move(self) -> Moved:
        """One piece, read now or refused before."""
        try:
            data = self._refused or os.read(self._source, CHUNK)
        except BlockingIOError:
            return Moved.SOURCE_EMPTY
        if not data:
            return Moved.ENDED
        taken = self._offer(data)
        self._refused = b"" if taken else data
        return Moved.SOME if taken else Moved.SINK_FULL

    def await_sink(self) -> None:
        """The writer calls when it has room."""
        self._watch(None, 0)


def check_log(uri: str) -> None:
    """Make the log, or find out why that cannot be; raises SupervisorError."""
    from supervisor.shimv2.runc.logfile import LogFile

    options = _options(uri)
    try:
        LogFile(options).close()
    except OSError as error:
        raise SupervisorError(f"open {options.path}: {(error.strerror or '').lower()}") from error


def write_log(uri: str, sources: Sequence[int]) -> tuple[None, Line]:
    """Write what comes from pipes until they have ended and all is on disk; SIGTERM ends that early."""
    from supervisor.shimv2.runc.logwriter import LogWriter

    loop = Loop().open()
    copiers: list[LogCopier] = []

    def resume() -> None:
        for copier in copiers:
            copier.resume()

    writer = LogWriter(_options(uri), has_room=partial(loop.call, resume), ended=loop.stop)
    loop.handle_signals({signal.SIGTERM: writer.give_up})
    running = list(sources)

    def ended(source: int) -> None:
        running.remove(source)
        if not running:
            writer.finish()

    copiers += [LogCopier(loop, source, writer.offer, partial(ended, source)) for source in sources]
    for copier in copiers:
        copier.start()
    loop.run()
    return None, ()


def _options(uri: str) -> LogOptions:
    options = log_options(uri)
    assert options is not None, uri
    return options
