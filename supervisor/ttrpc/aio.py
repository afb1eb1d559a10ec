"""ttrpc for the daemon, on asyncio: a client of shims, a server for what shims call.

Both are protocols on transports, so an idle connection costs no task; a call in flight is a future,
a handler at work is a task that the server's TaskGroup owns and the connection's end cancels.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar, cast

from google.protobuf.message import Message

from supervisor.errors import DeadlineExceeded
from supervisor.kernel.sockets import within_limit
from supervisor.ttrpc.calls import (
    Answer,
    Callee,
    Caller,
    ConnectionClosed,
    Incoming,
    Metadata,
    Refusal,
    Services,
    failure,
    success,
)
from supervisor.ttrpc.peer import is_same_user, plain_path

M = TypeVar("M", bound=Message)

SOCKET_MODE = 0o660
BACKLOG = 1024

log = logging.getLogger(__name__)


class Client(asyncio.Protocol):
    """One connection to a shim. `closed` is done exactly once, whoever ended it."""

    def __init__(self) -> None:
        self._caller = Caller()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(cls, address: str) -> Client:
        """Connect to the socket at `address`; raises OSError when nobody listens there or it is not ours."""
        with within_limit(plain_path(address)) as path:
            _, client = await asyncio.get_running_loop().create_unix_connection(cls, path)
        return client

    async def call(
        self,
        service: str,
        method: str,
        request: Message,
        response_type: type[M],
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> M:
        """Call and wait; raises what the server answered, DeadlineExceeded, or ConnectionClosed.

        Giving up, by timeout or cancellation, is not told to the server: a late answer is dropped.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionClosed
        stream, frame = self._caller.request(service, method, request, timeout, metadata)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[stream] = answer
        self._transport.write(frame)
        try:
            async with asyncio.timeout(timeout):
                return (await answer).decode(response_type)
        except TimeoutError:
            raise DeadlineExceeded(f"{method} was not answered within {timeout} s") from None
        finally:
            self._waiting.pop(stream, None)

    def close(self) -> None:
        """End the connection; `closed` tells when it is done."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless another user is behind it (asyncio calls this)."""
        self._transport = cast("asyncio.Transport", transport)
        if not is_same_user(transport.get_extra_info("socket")):
            log.warning("a shim's socket belongs to another user, refused")
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand answers to those who wait (asyncio calls this)."""
        for answer in self._caller.feed(data):
            waiting = self._waiting.pop(answer.stream, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail every call in flight, once (asyncio calls this)."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ConnectionClosed())
        if not self.closed.done():
            self.closed.set_result(None)


class Server:
    """Serves `services` on the unix socket at `path`, while inside its `async with`."""

    def __init__(self, path: Path, services: Services) -> None:
        self._path = path
        self._services = services
        self._group = asyncio.TaskGroup()
        self._connections: set[_Connection] = set()
        self._listening: asyncio.Server | None = None

    async def __aenter__(self) -> Server:
        await self._group.__aenter__()
        listener = _bind(self._path)
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_unix_server(self._connection, sock=listener, backlog=BACKLOG)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._listening is not None:
            self._listening.close()
        ending = list(self._connections)
        for connection in ending:
            connection.end()
        await asyncio.gather(*(connection.lost for connection in ending))
        await self._group.__aexit__(None, None, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _connection(self) -> _Connection:
        return _Connection(self._services, self._group, self._connections)


class _Connection(asyncio.Protocol):
    """One accepted connection and the tasks that work for it."""

    def __init__(self, services: Services, group: asyncio.TaskGroup, register: set[_Connection]) -> None:
        self._callee = Callee(services)
        self._group = group
        self._register = register
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """Close without waiting for replies."""
        if self._transport is not None:
            self._transport.abort()
        self._cancel_tasks()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not is_same_user(transport.get_extra_info("socket")):
            log.warning("refused a connection of another user")
            self._transport.abort()
            return
        self._register.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._register.discard(self)
        self._cancel_tasks()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """Read nothing more from a peer that does not take its replies (asyncio calls this)."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on reading (asyncio calls this)."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        for event in self._callee.feed(data):
            if isinstance(event, Refusal):
                self._write(event.frame)
            else:
                self._start(event)

    def _start(self, incoming: Incoming) -> None:
        task = self._group.create_task(self._work(incoming))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, incoming: Incoming) -> None:
        try:
            async with asyncio.timeout(incoming.call.remaining()):
                reply = await cast(
                    "Awaitable[Message]", incoming.method.handler(incoming.request, incoming.call)
                )
            frame = success(incoming.stream, reply)
        # The border to arbitrary handlers: whatever they raise becomes the caller's answer.
        except Exception as error:
            frame = failure(incoming.stream, error)
        self._callee.done(incoming.stream)
        self._write(frame)

    def _write(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def _cancel_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()


def _run(incoming: Incoming) -> Awaitable[Message]:
    return cast("Awaitable[Message]", incoming.method.handler(incoming.request, incoming.call))


def _bind(path: Path) -> socket.socket:
    """A listening-to-be socket at `path`; one that a dead daemon left behind is replaced."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with within_limit(path) as short:
            listener.bind(short)
        os.chmod(path, SOCKET_MODE)
    except OSError:
        listener.close()
        raise
    return listener
