"""ttrpc for a process of one thread: a server and a client on their owner's loop; no asyncio.

A handler answers at once or is a coroutine, so any number of calls that wait cost no thread. Nothing
here blocks: what a peer does not take at once is kept, and nothing more is read from that peer until it
has taken it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Protocol

from supervisor.kernel.sockets import Socket, accepted, connected
from supervisor.ttrpc.calls import (
    Answer,
    Callee,
    Caller,
    ConnectionClosed,
    Encoding,
    Incoming,
    Metadata,
    Refusal,
    Services,
    failure,
    success,
)
from supervisor.ttrpc.peer import is_same_user, plain_path
from supervisor.ttrpc.promise import Promise, begin

READ = 1
WRITE = 2
READ_SIZE = 64 << 10


class Watcher(Protocol):
    """What is needed of a loop: to be called, with a mask of READ and WRITE, when a descriptor is ready."""

    def watch(self, descriptor: int, mask: int, ready: Callable[[int], None]) -> object:
        """Begin."""

    def change(self, descriptor: int, mask: int) -> None:
        """Wait for something else."""

    def forget(self, descriptor: int) -> None:
        """End."""


class Connection:
    """The bytes of one connection: both sides are made of it."""

    def __init__(self, loop: Watcher, connection: Socket) -> None:
        connection.setblocking(False)
        self._loop = loop
        self._socket = connection
        self._unsent = bytearray()
        self._ended = False
        loop.watch(connection.fileno(), READ, self._ready)

    def end(self) -> None:
        """Close the connection; what is still to be sent is dropped."""
        if not self._ended:
            self._ended = True
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self.lost()

    def write(self, frame: bytes) -> None:
        """Send a frame, now or when the peer takes it."""
        if self._ended:
            return
        was_stalled = bool(self._unsent)
        self._unsent += frame
        if was_stalled:
            return
        try:
            self._push()
        except OSError:
            return  # the end is learnt of by reading
        if self._unsent:
            self._loop.change(self._socket.fileno(), WRITE)

    def received(self, data: bytes) -> None:
        """Take in what has come."""
        raise NotImplementedError

    def lost(self) -> None:
        """Note that the connection has ended, whoever ended it."""

    def _ready(self, mask: int) -> None:
        try:
            if self._unsent and mask & WRITE:
                self._push()
                if not self._unsent:
                    self._loop.change(self._socket.fileno(), READ)
            elif mask & READ:
                self._receive()
        except OSError:
            self.end()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        if data:
            self.received(data)
        else:
            self.end()

    def _push(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return


class Server:
    """Serves connections of a listening socket. One of another user is closed at once."""

    _listener: Socket

    def __init__(self, services: Services, loop: Watcher) -> None:
        self.connections: set[_Served] = set()
        self._services = services
        self._loop = loop

    def listen(self, listener: Socket) -> None:
        """Serve those who connect to a listening socket."""
        self._listener = listener
        listener.setblocking(False)
        self._loop.watch(listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        for connection in list(self.connections):
            connection.end()

    def _accept(self, _mask: int) -> None:
        try:
            connection = accepted(self._listener)
        except (BlockingIOError, ConnectionAbortedError):
            return
        if is_same_user(connection):
            self.connections.add(_Served(self._loop, connection, self._services, self.connections))
        else:
            connection.close()


class _Served(Connection):
    """One accepted connection."""

    def __init__(self, loop: Watcher, connection: Socket, services: Services, register: set[_Served]) -> None:
        self._callee = Callee(services)
        self._register = register
        super().__init__(loop, connection)

    def received(self, data: bytes) -> None:
        """Begin the calls that it completes."""
        for event in self._callee.feed(data):
            if isinstance(event, Refusal):
                self.write(event.frame)
            else:
                self._work(event)

    def lost(self) -> None:
        """As Connection. Calls in work go on; their replies are dropped."""
        self._register.discard(self)

    def _work(self, incoming: Incoming) -> None:
        try:
            result = incoming.method.handler(incoming.request, incoming.call)
        # The border to arbitrary handlers: whatever they raise becomes the caller's answer.
        except Exception as error:
            self._answer(incoming.stream, failure(incoming.stream, error))
            return
        if isinstance(result, CoroutineType):
            begin(result).then(lambda done: self._answer(incoming.stream, _frame(incoming.stream, done)))
        else:
            self._answer(incoming.stream, success(incoming.stream, result))

    def _answer(self, stream: int, frame: bytes) -> None:
        self._callee.done(stream)
        self.write(frame)


def _frame(stream: int, done: Promise[Encoding | bytes]) -> bytes:
    try:
        return success(stream, done.result())
    # As in _work.
    except Exception as error:
        return failure(stream, error)


class Client(Connection):
    """A connection to call on. Closed once, it stays closed."""

    def __init__(self, loop: Watcher, path: str) -> None:
        """Connect to the socket at `path`; raises OSError when nobody listens there, or nobody accepts."""
        self._caller = Caller()
        self._waiting: dict[int, Promise[Answer]] = {}
        super().__init__(loop, connected(plain_path(path)))

    def call(
        self, service: str, method: str, request: bytes, timeout: float, metadata: Metadata
    ) -> Promise[Answer]:
        """Call; the promise fails with ConnectionClosed. The caller keeps the time that it tells."""
        answer: Promise[Answer] = Promise()
        if self._ended:
            answer.fail(ConnectionClosed())
            return answer
        stream, frame = self._caller.request(service, method, request, timeout, metadata)
        self._waiting[stream] = answer
        self.write(frame)
        return answer

    @property
    def ended(self) -> bool:
        """Whether the connection is gone."""
        return self._ended

    def received(self, data: bytes) -> None:
        """Hand answers to those who wait."""
        for answer in self._caller.feed(data):
            waiting = self._waiting.pop(answer.stream, None)
            if waiting is not None:
                waiting.settle(answer)

    def lost(self) -> None:
        """As Connection: calls in flight fail."""
        waiting, self._waiting = self._waiting, {}
        for promise in waiting.values():
            promise.fail(ConnectionClosed())
