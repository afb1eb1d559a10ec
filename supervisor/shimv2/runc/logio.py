"""Output into a log that is rotated and never stops the container (no counterpart in containerd).

The loop reads the container's pipes and hands the bytes to the log's writer, which waits for the disk
in a thread of its own. Imported when a client asks for such a log.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from supervisor.errors import SupervisorError
from supervisor.shimv2.runc.copier import CHUNK, Copier, Moved
from supervisor.shimv2.runc.logoptions import LogOptions
from supervisor.shimv2.runc.logwriter import LogWriter
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.stdio import PipeIO, StdioPaths


class LogCopier(Copier):
    """From a pipe to the writer."""

    def __init__(self, loop: Loop, source: int, writer: LogWriter, ended: Callable[[], None]) -> None:
        super().__init__(loop, source, -1, ended)
        self._writer = writer
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
        taken = self._writer.offer(data)
        self._refused = b"" if taken else data
        return Moved.SOME if taken else Moved.SINK_FULL

    def await_sink(self) -> None:
        """The writer calls when it has room."""
        self._watch(None, 0)


class LogIO(PipeIO):
    """Both outputs into one log; the input as with PipeIO."""

    def __init__(self, loop: Loop, paths: StdioPaths, owner: tuple[int, int], options: LogOptions) -> None:
        self._options = options
        self._writer: LogWriter | None = None
        self._readers: list[LogCopier] = []
        super().__init__(loop, StdioPaths(paths.stdin, options.path, options.path), owner)

    def begin(self) -> None:
        """As ProcessIO."""
        try:
            self._writer = LogWriter(
                self._options, has_room=partial(self.loop.call, self._resume), ended=self._drained.set
            )
        except OSError as error:
            raise SupervisorError(f"open {self._options.path}: {(error.strerror or '').lower()}") from error
        super().begin()

    def output_ended(self, *descriptors: int) -> None:
        """As CopiedIO, but what is drained is the writer."""
        self.owned.close(*descriptors)
        self._outputs_open -= 1
        if not self._outputs_open and self._writer is not None:
            self._writer.finish()

    def _give_up(self) -> None:
        if self._writer is not None:
            self._writer.give_up()
        super()._give_up()

    def _check(self, path: str) -> None:
        if path == self._paths.stdin:
            super()._check(path)

    def _open_sink(self, path: str, until: float) -> tuple[int, ...]:
        return ()

    def _output(self, source: int, sink_and_keepers: tuple[int, ...]) -> Copier:
        assert self._writer is not None
        ended = partial(self.output_ended, source)
        self._readers.append(LogCopier(self.loop, source, self._writer, ended))
        return self._readers[-1]

    def _resume(self) -> None:
        for reader in self._readers:
            reader.resume()
