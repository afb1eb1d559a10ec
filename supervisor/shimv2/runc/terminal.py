"""A process with a terminal, while it runs: one stream in each direction (containerd: process/io.go).

This process keeps the terminal's other side open as well while the container's process lives.
Otherwise the master would report EIO whenever no process happens to have it open, and would have
to be asked again and again. After the exit it is let go of, and EIO means that all has been read.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from functools import partial

from supervisor.shimv2.runc.copier import BufferCopier, Copier, TerminalReader
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.stdio import CopiedIO, Logger
from supervisor.shimv2.runc.wiring import Line, Wiring

_TIOCGPTPEER = 0x5441  # linux/tty ioctls: open the other side, wherever its devpts is mounted


class TerminalIO(CopiedIO):
    """Copies from and to the master side; `logger` is the program that reads what is printed, if one does."""

    def __init__(self, loop: Loop, wiring: Wiring, logger: Logger | None, *, drops: bool = False) -> None:
        self._master = wiring.outputs[0][0]
        self._peer = -1
        self._process_ended = False
        self._logger = logger
        self._reader: TerminalReader | None = None
        super().__init__(loop, wiring, drops=drops)

    def begin(self) -> None:
        """As CopiedIO."""
        self._open_peer()
        super().begin()

    def input(self, line: Line) -> Copier:
        """As CopiedIO. The writing end is a number of its own: the loop watches each for one purpose only."""
        return BufferCopier(self.loop, line[0], line[1], partial(self._input_over, *line[:2]))

    def output(self, line: Line) -> Copier:
        """As CopiedIO."""
        ended = partial(self._output_over, *line)
        self._reader = TerminalReader(self.loop, line[0], line[1], ended, self._open_peer, drops=self.drops)
        return self._reader

    def process_ended(self) -> None:
        """As ProcessIO."""
        self._process_ended = True
        self.owned.close(self._peer)

    def resize(self, width: int, height: int) -> None:
        """As ProcessIO; the kernel tells the processes in the foreground."""
        if self._master >= 0:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))

    def close(self) -> None:
        """As ProcessIO."""
        super().close()
        if self._logger is not None:
            self._logger.stop()

    async def ended(self) -> None:
        """As ProcessIO."""
        if self._logger is not None:
            await self._logger.gone()

    def _open_peer(self) -> bool:
        """Hold the other side open, unless the process is gone; False when it is or there is none."""
        if self._process_ended:
            return False
        try:
            peer = fcntl.ioctl(self._master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return False
        self.owned.close(self._peer)
        self._peer = self.owned.add(peer)
        return True

    def _output_over(self, *descriptors: int) -> None:
        self._master = -1
        self.output_ended(*descriptors, self._peer)

    def _input_over(self, source: int, writer: int) -> None:
        """The end of its input hangs a terminal up, but what has been printed is passed on first."""
        self.owned.close(source, writer)
        if self._reader is not None:
            self._reader.finish()
