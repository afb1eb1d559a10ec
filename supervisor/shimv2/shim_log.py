"""What shims log: a fifo in each bundle, read by whichever daemon is there (contract 2.4)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path

READ_SIZE = 64 << 10

log = logging.getLogger("supervisor.shim")


class ShimLog:
    """Passes on the lines of one shim's fifo until it is closed."""

    def __init__(self, fifo: Path, name: str) -> None:
        # Opened for both directions: opening never waits for a writer, and reading never ends with one.
        self._descriptor = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """Pass on what is there and stop."""
        if self._descriptor >= 0:
            self._read()
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for line in os.read(self._descriptor, READ_SIZE).decode(errors="replace").splitlines():
                log.info("%s: %s", self._name, line)


def opened(fifo: Path, name: str) -> ShimLog | None:
    """The log of a shim; None when its fifo is gone, which costs lines of log and nothing else."""
    try:
        return ShimLog(fifo, name)
    except OSError as error:
        log.warning("cannot read the log of shim %s: %s", name, error)
        return None
