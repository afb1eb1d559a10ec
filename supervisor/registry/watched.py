"""Sockets that do not wait for ever: each judges the rate at which its bytes come.

A timeout of a socket bounds the wait for the next byte only, and so a host that sends one byte every
few seconds holds a client for days, in the body, in the header, in the size of a chunk. A watched
socket adds up what it waits and what it gets; below the least rate it raises Stalled, wherever in the
answer that is. Time in which nobody reads does not count, so a slow consumer is no slow host. The first
wait after sending is the host's time to think, which its own timeout bounds.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from supervisor.registry.deadline import Deadline
from supervisor.registry.dialing import dial
from supervisor.registry.failures import Stalled


class Watch:
    """Judges one socket: at least `rate()` bytes per second over `window` seconds of waiting."""

    def __init__(self, rate: Callable[[], float], window: float, deadline: Deadline) -> None:
        self._rate, self._window, self._deadline = rate, window, deadline
        self._thinking = True
        self._waited = 0.0
        self._received = 0

    def sends(self, sock: socket.socket) -> None:
        """A piece of a request goes out, within the window; the wait that follows is not judged by bytes.

        urllib3 would give it the time in which a connection has to come about, which may be short.
        """
        bound = min(self._window or float("inf"), max(self._deadline.remaining(), 0.001))
        sock.settimeout(None if bound == float("inf") else bound)
        self._thinking = True
        self._waited, self._received = 0.0, 0

    def receive(self, sock: socket.socket, receive: Callable[[], int]) -> int:
        """Have `receive` get bytes, within the transfer's time; raises Stalled when they come too slowly."""
        self._deadline.check()
        allowed = sock.gettimeout()
        left = self._deadline.remaining()
        if allowed is None or left < allowed:
            sock.settimeout(max(left, 0.001) if left != float("inf") else None)
        began = time.monotonic()
        try:
            count = receive()
        finally:
            waited = time.monotonic() - began
            self._deadline.check()
        self._judge(count, waited)
        return count

    def _judge(self, count: int, waited: float) -> None:
        if self._thinking:
            self._thinking = False
            return
        self._waited += waited
        self._received += count
        if self._window and self._waited >= self._window:
            if self._received < self._rate() * self._waited:
                raise Stalled(f"it sent {self._received} bytes in {self._waited:.0f} s, which is too slow")
            self._waited, self._received = 0.0, 0


class WatchedSocket(socket.socket):
    """A plain socket with a watch."""

    watch: Watch | None = None

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As a socket's; the answer that follows gets its time anew."""
        if self.watch is not None:
            self.watch.sends(self)
        super().sendall(data, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As a socket's; raises Stalled too."""
        if self.watch is None:
            return super().recv_into(buffer, nbytes, flags)
        receive = super().recv_into
        return self.watch.receive(self, lambda: receive(buffer, nbytes, flags))


class WatchedTLSSocket(ssl.SSLSocket):
    """A TLS socket with a watch, once its handshake is over; that one is bounded by the dial timeout."""

    watch: Watch | None = None

    def sendall(self, data: Any, flags: int = 0) -> None:
        """As a socket's; the answer that follows gets its time anew."""
        if self.watch is not None:
            self.watch.sends(self)
        super().sendall(data, flags)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """As a socket's; raises Stalled too."""
        if self.watch is None:
            return super().recv_into(buffer, nbytes, flags)
        receive = super().recv_into
        return self.watch.receive(self, lambda: receive(buffer, nbytes, flags))


class Sockets:
    """All sockets of a transfer: how each is watched, and the way to cut them at once."""

    def __init__(self, rate: float, window: float, deadline: Deadline) -> None:
        """Watch every socket by `window` and its part of `rate`, see Watch.

        They share the rate, because they share the line: where that is slow, so are all of them.
        """
        self._rate, self._window, self._deadline = rate, window, deadline
        self._lock = threading.Lock()
        self._live: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def adopt(self, sock: WatchedSocket | WatchedTLSSocket) -> None:
        """Watch a new connection."""
        sock.watch = Watch(self._share, self._window, self._deadline)
        with self._lock:
            self._live.add(sock)

    def _share(self) -> float:
        with self._lock:
            return self._rate / max(1, len(self._live))

    def cut(self) -> None:
        """Wake whoever waits on any of them; their reads end, their writes fail."""
        with self._lock:
            live = list(self._live)
        for sock in live:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def pool_classes(self) -> dict[str, type[HTTPConnectionPool]]:
        """urllib3's pools by scheme, made so that their connections are watched."""
        adopt = self.adopt

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return _watched(_dialed(self), self.timeout)

            def connect(self) -> None:
                super().connect()
                _adopt(adopt, self.sock)

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return _dialed(self)

            def connect(self) -> None:
                super().connect()
                # Whoever wants no verification has said so in a file; urllib3 need not warn of it.
                self.is_verified = True
                _adopt(adopt, self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}


def _dialed(connection: HTTPConnection) -> socket.socket:
    """Connect as urllib3 does, with its errors, but to all addresses of the host."""
    timeout = connection.timeout
    assert timeout is None or isinstance(timeout, int | float)
    try:
        sock = dial(connection.host, connection.port, timeout, connection.socket_options or ())
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, "no connection in time") from error
    except OSError as error:
        raise NewConnectionError(connection, "no connection") from error
    sock.settimeout(timeout)
    return sock


def _watched(sock: socket.socket, timeout: Any) -> WatchedSocket:
    made = WatchedSocket(fileno=sock.detach())
    made.settimeout(timeout)
    return made


def _adopt(adopt: Callable[[WatchedSocket | WatchedTLSSocket], None], sock: object) -> None:
    if isinstance(sock, WatchedSocket | WatchedTLSSocket):
        adopt(sock)
