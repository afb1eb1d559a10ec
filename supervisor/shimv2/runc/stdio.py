"""A process's streams while it runs: what the shim does with their bytes (containerd: process/io.go).

Made from a `Wiring`, with descriptors that are owned from then on. `close` gives up whatever is still
open, and may be called at any time.
"""

from __future__ import annotations

import signal
from functools import partial

from supervisor.shimv2.runc import log
from supervisor.shimv2.runc.copier import Copier, copier_for
from supervisor.shimv2.runc.endpoints import Descriptors
from supervisor.shimv2.runc.forks import Forks
from supervisor.shimv2.runc.loop import Loop, Timer
from supervisor.shimv2.runc.reaper import Exit, Reaper
from supervisor.shimv2.runc.wiring import Line, Wiring
from supervisor.ttrpc.promise import Promise

LOGGER_SECONDS = 12.0
"""What a client's program is given to write what it has read."""


class ProcessIO:
    """No streams at all, or none of which a byte passes through this process."""

    def process_ended(self) -> None:
        """Note that the process is gone."""

    def close_stdin(self) -> None:
        """Stop keeping the input open: it ends when the client's writers are gone too."""

    def resize(self, width: int, height: int) -> None:
        """Set the size of the terminal, if it is one."""

    async def drained(self, seconds: float) -> bool:
        """Wait until the output has been passed on to its end; False when the time ran out."""
        return True

    def close(self) -> None:
        """Give up whatever is still open."""

    async def ended(self) -> None:
        """Wait, once it is closed, for those who worked on it."""


class CopiedIO(ProcessIO):
    """Pipes, whose bytes are copied from and to what the client has given."""

    def __init__(self, loop: Loop, wiring: Wiring, *, drops: bool = False) -> None:
        self.loop = loop
        self.drops = drops
        self.owned = Descriptors()
        for descriptor in wiring.descriptors():
            self.owned.add(descriptor)
        self._keepers = wiring.stdin[2:]
        self._outputs_open = len(wiring.outputs)
        self._drained: Promise[None] = Promise()
        if not wiring.outputs:
            self._drained.settle(None)
        self._copiers = self.copiers(wiring)

    def begin(self) -> None:
        """Start copying."""
        for copier in self._copiers:
            copier.start()

    def copiers(self, wiring: Wiring) -> list[Copier]:
        """One for each line."""
        copiers = [self.output(line) for line in wiring.outputs]
        if wiring.stdin:
            copiers.append(self.input(wiring.stdin))
        return copiers

    def input(self, line: Line) -> Copier:
        """The copier of the process's input."""
        return copier_for(self.loop, line[0], line[1], partial(self.owned.close, *line[:2]))

    def output(self, line: Line) -> Copier:
        """The copier of an output."""
        ended = partial(self.output_ended, *line)
        return copier_for(self.loop, line[0], line[1], ended, drops=self.drops)

    def output_ended(self, *descriptors: int) -> None:
        """Close an output's descriptors: now the client sees its end."""
        self.owned.close(*descriptors)
        self._outputs_open -= 1
        if not self._outputs_open:
            self.settle_drained()

    def settle_drained(self) -> None:
        """Answer those who wait for the output's end."""
        if not self._drained.done():
            self._drained.settle(None)

    def close_stdin(self) -> None:
        """As ProcessIO."""
        self.owned.close(*self._keepers)

    async def drained(self, seconds: float) -> bool:
        """As ProcessIO."""
        return await self.loop.settled(self._drained, seconds)

    def close(self) -> None:
        """As ProcessIO."""
        for copier in self._copiers:
            copier.stop()
        self.owned.close_all()
        self.settle_drained()


class Logger:
    """A client's program that reads the output; it was orphaned to this process, and is claimed here."""

    def __init__(self, pid: int, loop: Loop, reaper: Reaper) -> None:
        self._pid = pid
        self._loop = loop
        self._reaper = reaper
        self._gone: Promise[None] = Promise()
        self._patience: Timer | None = None
        reaper.claim(pid, self._ended)

    def stop(self) -> None:
        """End the program, which has some time to write what it has read."""
        if self._reaper.kill(self._pid, signal.SIGTERM) and self._patience is None:
            self._patience = self._loop.after(LOGGER_SECONDS, self._kill)

    async def gone(self) -> None:
        """Wait for its end."""
        await self._gone

    def _kill(self) -> None:
        self._reaper.kill(self._pid, signal.SIGKILL)

    def _ended(self, exit_: Exit) -> None:
        log.debug("the logging program %d ended with %d", self._pid, exit_.status)
        if self._patience is not None:
            self._patience.cancel()
        self._gone.settle(None)


class LoggerIO(ProcessIO):
    """The container writes straight into a program's pipes; it has no input."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def close(self) -> None:
        """As ProcessIO."""
        self._logger.stop()

    async def ended(self) -> None:
        """As ProcessIO."""
        await self._logger.gone()


def io_for(wiring: Wiring, loop: Loop, reaper: Reaper, forks: Forks, *, drops: bool) -> ProcessIO:
    """What a wiring needs, at work. The rarer kinds are imported when needed."""
    io: CopiedIO
    if wiring.log:
        from supervisor.shimv2.runc.logio import LogIO

        io = LogIO(loop, wiring, forks)
    elif wiring.terminal:
        from supervisor.shimv2.runc.terminal import TerminalIO

        logger = Logger(wiring.logger, loop, reaper) if wiring.logger else None
        io = TerminalIO(loop, wiring, logger, drops=drops)
    elif wiring.logger:
        return LoggerIO(Logger(wiring.logger, loop, reaper))
    elif wiring.stdin or wiring.outputs:
        io = CopiedIO(loop, wiring, drops=drops)
    else:
        return ProcessIO()
    io.begin()
    return io
