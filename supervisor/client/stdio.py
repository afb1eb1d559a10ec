"""The client's ends of a process's fifos (containerd: pkg/cio).

The rules that both sides live by:
- read ends are opened before the task is created, since the shim waits for them when it opens its own;
- the shim keeps every fifo open, so a client that goes away takes nothing with it, and another one
  can open the same paths later;
- input ends only when all writers have closed the fifo and the daemon was asked to close its end.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import tempfile
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from supervisor.client.tasks import Streams
from supervisor.errors import FailedPrecondition, NotFound

# Reading ahead is bounded, so that a slow reader slows the process down instead of filling memory.
READ_AHEAD_BYTES = 256 << 10
_ATTEMPTS = 5
_FOLDER_PREFIX = "io-"
_DRAIN_POLL_SECONDS = 0.005


class Input:
    """Writes what a process reads. Opened both ways, so that opening never blocks nor writing kills."""

    def __init__(self, path: str) -> None:
        self._fd = _open(path, os.O_RDWR)

    async def write(self, data: bytes) -> None:
        """Write all of `data`, as fast as it is read."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._writable()

    async def drained(self) -> None:
        """Return when everything written has been read by the other side."""
        while self._fd >= 0 and _unread(self._fd):  # noqa: ASYNC110 - the kernel has no event for it
            await asyncio.sleep(_DRAIN_POLL_SECONDS)

    def close(self) -> None:
        """Close this end; the process sees its input end once the daemon's end is closed too."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_writer(self._fd, _resolve, ready)
        try:
            await ready
        finally:
            loop.remove_writer(self._fd)


class Stdio:
    """Open ends of the fifos named by `streams`; None where there is no fifo."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.stdin: Input | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._transports: list[asyncio.ReadTransport] = []

    async def open(self) -> None:
        """Open this side's ends."""
        self.stdout = await self._reader(self.streams.stdout)
        self.stderr = await self._reader(self.streams.stderr)
        self.stdin = Input(self.streams.stdin) if self.streams.stdin else None

    def close(self) -> None:
        """Close this side's ends; the process is not disturbed."""
        for transport in self._transports:
            transport.close()
        if self.stdin is not None:
            self.stdin.close()

    async def _reader(self, path: str) -> asyncio.StreamReader | None:
        if not path:
            return None
        reader = asyncio.StreamReader(limit=READ_AHEAD_BYTES)
        pipe = os.fdopen(_open(path, os.O_RDONLY), "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        self._transports.append(transport)
        return reader


@asynccontextmanager
async def fifos(
    directory: Path, *, stdin: bool = False, terminal: bool = False, keep: bool = False
) -> AsyncIterator[Stdio]:
    """Make fifos in a fresh folder below `directory` and open this side's ends; `keep` leaves them there."""
    folder = _fresh_folder(directory)
    stdio = Stdio(_make(folder, stdin, terminal))
    try:
        await stdio.open()
        yield stdio
    finally:
        stdio.close()
        if not keep:
            remove_fifos(stdio.streams)


@asynccontextmanager
async def attached(streams: Streams) -> AsyncIterator[Stdio]:
    """Open this side's ends of fifos that a process has already; they stay when the block ends."""
    if not streams.stdout or "://" in streams.stdout:
        raise FailedPrecondition(f"attach: output goes to {streams.stdout or 'nowhere'}, not to a fifo")
    stdio = Stdio(streams)
    try:
        await stdio.open()
        yield stdio
    finally:
        stdio.close()


def remove_fifos(streams: Streams) -> None:
    """Remove fifos that `fifos` made, in whatever client, and their folder; anything else is left alone."""
    named = [Path(path) for path in (streams.stdin, streams.stdout, streams.stderr) if path.startswith("/")]
    own = [path for path in named if path.parent.name.startswith(_FOLDER_PREFIX)]
    for path in own:
        if path.is_fifo():
            path.unlink(missing_ok=True)
    for folder in {path.parent for path in own}:
        with suppress(OSError):  # somebody else's file is in it, or another client just removed it
            folder.rmdir()
            folder.parent.rmdir()


def _fresh_folder(directory: Path) -> Path:
    for _ in range(_ATTEMPTS):
        # The last client to leave removes `directory`, maybe between these two steps.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=directory))
    raise NotFound(f"make a folder for fifos: {directory} keeps vanishing")


def _make(folder: Path, stdin: bool, terminal: bool) -> Streams:
    names = ["stdin"] if stdin else []
    names += ["stdout"] if terminal else ["stdout", "stderr"]
    for name in names:
        os.mkfifo(folder / name, 0o600)
    paths = {name: str(folder / name) for name in names}
    return Streams(paths.get("stdin", ""), paths["stdout"], paths.get("stderr", ""), terminal)


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"open the fifo {path}: {error.strerror}; has its process been deleted?") from error


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _unread(fd: int) -> int:
    answer = fcntl.ioctl(fd, termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
