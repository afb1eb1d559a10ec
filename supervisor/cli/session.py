"""Sitting in front of a process: its output here, our input and signals there, until it has ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext, suppress

from supervisor.cli import terminal
from supervisor.client.stdio import Input, Stdio
from supervisor.client.tasks import Exit, Process
from supervisor.errors import SupervisorError

PIECE_BYTES = 64 << 10
# A daemon that is being replaced is back in seconds; the process itself does not notice.
PATIENCE_SECONDS = 300.0
# Whoever asks that often wants to leave, also when the process does not listen.
_GIVE_UP_AFTER = 3
_BROKEN_PIPE_SECONDS = 1.0
_FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


async def attend(process: Process, stdio: Stdio) -> Exit:
    """Start the process and stay with it: returns when it has ended and all its output is written."""
    with terminal.raw() if stdio.streams.terminal and stdio.stdin else nullcontext():
        try:
            async with asyncio.TaskGroup() as group:
                return await _attend(group, process, stdio)
        except BaseExceptionGroup as errors:
            # One thing went wrong, and the group's other tasks were cancelled for it.
            raise errors.exceptions[0] from errors


async def _attend(group: asyncio.TaskGroup, process: Process, stdio: Stdio) -> Exit:
    outputs = _copy_outputs(group, process, stdio)
    # Listened to before it starts: it may say "ready" before we are told that it has started.
    signals = _Signals(group, process)
    if stdio.streams.terminal:
        await _resize(process)  # it may ask for the size first thing
    await process.start()
    signals.started.set()
    with _resizing(group, process, stdio):
        feeding = group.create_task(_feed(process, stdio.stdin)) if stdio.stdin else None
        ended = await process.wait(patience=PATIENCE_SECONDS)
        signals.ended = True
        if feeding is not None:
            feeding.cancel()
        for output in outputs:
            await output
    return ended


def _copy_outputs(group: asyncio.TaskGroup, process: Process, stdio: Stdio) -> list[asyncio.Task[None]]:
    pairs = ((stdio.stdout, sys.stdout.fileno()), (stdio.stderr, sys.stderr.fileno()))
    return [group.create_task(_copy(process, reader, fd)) for reader, fd in pairs if reader is not None]


async def _copy(process: Process, reader: asyncio.StreamReader, fd: int) -> None:
    """Copy until the end. When nobody reads us any more the process is ended, as a pipe would end it."""
    while data := await reader.read(PIECE_BYTES):
        try:
            await asyncio.to_thread(_write_all, fd, data)
        except BrokenPipeError:
            await _break_pipe(process, reader)


async def _break_pipe(process: Process, reader: asyncio.StreamReader) -> None:
    """Send SIGPIPE; the first process of a container can be deaf to it, and is then killed."""
    for number in (signal.SIGPIPE, signal.SIGKILL):
        await _forward(process, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_BROKEN_PIPE_SECONDS):
                await _discard(reader)
                return
    await _discard(reader)


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(PIECE_BYTES):
        pass


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


async def _feed(process: Process, stdin: Input) -> None:
    """Copy our input to the process, then let it see the end."""
    async for data in _input():
        await stdin.write(data)
    await stdin.drained()
    stdin.close()
    with suppress(SupervisorError):  # it ended meanwhile: nobody left to tell
        await process.close_stdin()


async def _input() -> AsyncIterator[bytes]:
    fd = sys.stdin.fileno()
    while True:
        await _readable(fd)
        data = os.read(fd, PIECE_BYTES)
        if not data:
            return
        yield data


async def _readable(fd: int) -> None:
    """Return when a read would not block. Watching ends with the return: what is not read stays readable."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(fd, ready.set)
    except PermissionError:  # a regular file: it cannot be polled, and never blocks
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


class _Signals:
    """Hands signals on to the process; one request to end too many makes us leave without it.

    They stay caught when the process has ended, so that cleaning up behind it is not cut short.
    """

    def __init__(self, group: asyncio.TaskGroup, process: Process) -> None:
        self.started = asyncio.Event()
        self.ended = False
        self._group = group
        self._process = process
        self._asked = 0
        for number in _FORWARDED:
            asyncio.get_running_loop().add_signal_handler(number, self._received, number)

    def _received(self, number: signal.Signals) -> None:
        self._asked += number in (signal.SIGINT, signal.SIGTERM)
        if self._asked > _GIVE_UP_AFTER:
            raise KeyboardInterrupt
        if not self.ended:
            self._group.create_task(self._hand_on(number))

    async def _hand_on(self, number: int) -> None:
        await self.started.wait()
        await _forward(self._process, number)


async def _forward(process: Process, number: int) -> None:
    with suppress(SupervisorError):  # it ended, or the daemon is away: the wait will tell
        await process.kill(number)


@contextmanager
def _resizing(group: asyncio.TaskGroup, process: Process, stdio: Stdio) -> Iterator[None]:
    """Keep the process's terminal as large as ours."""
    if not stdio.streams.terminal:
        yield
        return
    loop = asyncio.get_running_loop()

    def changed() -> None:
        group.create_task(_resize(process))

    changed()
    loop.add_signal_handler(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


async def _resize(process: Process) -> None:
    dimensions = terminal.size()
    if dimensions is not None:
        with suppress(SupervisorError):  # it ended meanwhile
            await process.resize(*dimensions)
