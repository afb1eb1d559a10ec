"""ttrpc for the shim process: a client for threads, a server for a `selectors` loop; no asyncio.

The server's loop belongs to its owner: each key's `data` is a callable that takes the event mask.
Only the loop's thread touches the selector. Handlers run in threads of their own, or inline where
they cannot block; a handler that answers a future occupies no thread while it waits, so any number
of Wait calls costs none. Replies are written by whoever has them, without ever blocking: what a
peer does not take at once is kept, and nothing more is read from that peer until it has taken it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from collections import deque
from concurrent.futures import Future
from typing import TypeVar

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

READ_SIZE = 64 << 10
BACKLOG = 128

log = logging.getLogger(__name__)


class Client:
    """A connection that any number of threads may call on. Closed once, it stays closed."""

    def __init__(self, path: str, *, connect_timeout: float | None = None) -> None:
        """Connect to the socket at `path`; raises OSError when nobody listens there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(connect_timeout)
            with within_limit(plain_path(path)) as short:
                self._socket.connect(short)
            self._socket.settimeout(None)
        except OSError:
            self._socket.close()
            raise
        self._caller = Caller()
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Answer]] = {}
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="ttrpc-client", daemon=True)
        self._reader.start()

    def call(
        self,
        service: str,
        method: str,
        request: Message,
        response_type: type[M],
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> M:
        """Call and wait; raises what the server answered, DeadlineExceeded, or ConnectionClosed."""
        answer: Future[Answer] = Future()
        stream = self._send(service, method, request, timeout, metadata, answer)
        try:
            return answer.result(timeout).decode(response_type)
        except TimeoutError:
            self._waiting.pop(stream, None)
            raise DeadlineExceeded(f"{method} was not answered within {timeout} s") from None

    def close(self) -> None:
        """End the connection; calls in flight fail with ConnectionClosed."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(
        self,
        service: str,
        method: str,
        request: Message,
        timeout: float | None,
        metadata: Metadata,
        answer: Future[Answer],
    ) -> int:
        with self._lock:
            if self._closed:
                raise ConnectionClosed
            stream, frame = self._caller.request(service, method, request, timeout, metadata)
            self._waiting[stream] = answer
            try:
                self._socket.sendall(frame)
            except OSError:
                self._waiting.pop(stream, None)
                raise ConnectionClosed from None
            return stream

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(READ_SIZE):
                for answer in self._caller.feed(data):
                    self._resolve(answer)
        self._end()

    def _resolve(self, answer: Answer) -> None:
        waiting = self._waiting.pop(answer.stream, None)
        if waiting is None:
            log.debug("an answer came after its call had been given up, stream %d", answer.stream)
        else:
            waiting.set_result(answer)

    def _end(self) -> None:
        with self._lock:
            self._closed = True
            self._socket.close()
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(ConnectionClosed())


class Server:
    """Serves connections of a listening socket within the loop of `selector`'s owner."""

    def __init__(
        self, listener: socket.socket, services: Services, *, selector: selectors.BaseSelector
    ) -> None:
        """Register with `selector`; from then on its loop must call `key.data(mask)` for our keys."""
        self._listener = listener
        self._services = services
        self._selector = selector
        self._connections: set[_Connection] = set()
        self._stalled: deque[_Connection] = deque()
        self._wake_read, self._wake_write = socket.socketpair()
        for waker in (self._wake_read, self._wake_write):
            waker.setblocking(False)
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, self._accept)
        selector.register(self._wake_read, selectors.EVENT_READ, self._woken)

    def close(self) -> None:
        """Stop listening and end every connection; called by the loop's thread."""
        for waker in (self._listener, self._wake_read):
            self._selector.unregister(waker)
        for connection in list(self._connections):
            connection.end()
        for part in (self._listener, self._wake_read, self._wake_write):
            part.close()

    @property
    def idle(self) -> bool:
        """Whether no call is being worked on and every reply has been handed to the kernel."""
        return not any(connection.busy for connection in self._connections)

    def _accept(self, _mask: int) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self._listener.accept()
            if not is_same_user(connection):
                log.warning("refused a connection of another user")
                connection.close()
                return
            connection.setblocking(False)
            self._connections.add(_Connection(self, connection))

    def _woken(self, _mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(READ_SIZE)
        while self._stalled:
            self._stalled.popleft().update_interest()

    def _wake(self, connection: _Connection) -> None:
        self._stalled.append(connection)
        with contextlib.suppress(OSError):  # full means that a wake-up is under way already
            self._wake_write.send(b"\0")


class _Connection:
    """One accepted connection: the loop reads and selects, anybody writes under the lock."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        self._callee = Callee(server._services)
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._in_work = 0
        self._ended = False
        server._selector.register(connection, selectors.EVENT_READ, self._ready)

    @property
    def busy(self) -> bool:
        """Whether a call is unanswered or a reply unsent."""
        return bool(self._in_work or self._unsent)

    def end(self) -> None:
        """Close the connection; replies still to come are dropped. Called by the loop's thread."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._server._selector.unregister(self._socket)
            self._socket.close()
        self._server._connections.discard(self)

    def update_interest(self) -> None:
        """Wait for the peer to take what is unsent, or else for its next request; the loop's thread."""
        with self._lock:
            if not self._ended:
                interest = selectors.EVENT_WRITE if self._unsent else selectors.EVENT_READ
                self._server._selector.modify(self._socket, interest, self._ready)

    def _ready(self, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush()
            if mask & selectors.EVENT_READ:
                self._receive()
        except OSError:
            self.end()

    def _flush(self) -> None:
        with self._lock:
            self._push()
        self.update_interest()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            self.end()
            return
        for event in self._callee.feed(data):
            if isinstance(event, Refusal):
                self._write(event.frame)
            else:
                self._dispatch(event)

    def _dispatch(self, incoming: Incoming) -> None:
        with self._lock:
            self._in_work += 1
        if incoming.method.inline:
            self._work(incoming)
        else:
            threading.Thread(target=self._work, args=(incoming,), name="ttrpc-call", daemon=True).start()

    def _work(self, incoming: Incoming) -> None:
        try:
            result = incoming.method.handler(incoming.request, incoming.call)
        # The border to arbitrary handlers: whatever they raise becomes the caller's answer.
        except Exception as error:
            self._answer(incoming.stream, failure(incoming.stream, error))
            return
        if isinstance(result, Future):
            result.add_done_callback(
                lambda done: self._answer(incoming.stream, _frame_of(incoming.stream, done))
            )
        else:
            self._answer(incoming.stream, success(incoming.stream, result))

    def _answer(self, stream: int, frame: bytes) -> None:
        with self._lock:
            self._in_work -= 1
            self._callee.done(stream)
        self._write(frame)

    def _write(self, frame: bytes) -> None:
        with self._lock:
            if self._ended:
                return
            was_stalled = bool(self._unsent)
            self._unsent += frame
            if was_stalled:
                return
            with contextlib.suppress(OSError):  # the loop learns of the end by reading
                self._push()
            stalled = bool(self._unsent)
        if stalled:
            self._server._wake(self)

    def _push(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]


def _frame_of(stream: int, done: Future[Message]) -> bytes:
    try:
        return success(stream, done.result())
    # As in _work; a cancelled future is an answer too.
    except Exception as error:
        return failure(stream, error)
