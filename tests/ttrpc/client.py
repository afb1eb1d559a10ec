"""A ttrpc client for threads, which tests call shims and servers with."""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import Future
from typing import TypeVar

from google.protobuf.message import Message

from supervisor.errors import DeadlineExceeded
from supervisor.kernel.sockets import within_limit
from supervisor.ttrpc.calls import (
    Answer,
    Caller,
    ConnectionClosed,
    Metadata,
)
from supervisor.ttrpc.peer import plain_path

M = TypeVar("M", bound=Message)

READ_SIZE = 64 << 10


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
        if waiting is not None:
            waiting.set_result(answer)

    def _end(self) -> None:
        with self._lock:
            self._closed = True
            self._socket.close()
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(ConnectionClosed())
