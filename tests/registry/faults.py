"""A server on loopback that stands before a registry and misbehaves as it is told.

    with before(registry.host) as faults:
        faults.on("GET", "/blobs/", cut(after=1000), times=2)

What no rule is for goes through. Every request is recorded, with its header, and the bytes that were
sent for it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.registries import Certificates

PIECE = 16 << 10
_HOP = {"connection", "transfer-encoding", "keep-alive", "server", "date"}


@dataclass(slots=True)
class Seen:
    """A request that came, from which port of the client, and how many bytes of content went back."""

    method: str
    path: str
    header: dict[str, str]
    port: int = 0
    sent: int = 0
    received: int = 0

    @property
    def range(self) -> str:
        return self.header.get("range", "")


Action = Callable[["Exchange"], None]


@dataclass(slots=True)
class Rule:
    """What to do with requests of a method whose path has `part` in it, so many times."""

    method: str
    part: str
    action: Action
    times: int

    def fits(self, seen: Seen) -> bool:
        return self.times > 0 and self.method in ("*", seen.method) and self.part in seen.path


@dataclass(slots=True)
class Faults:
    """The server's rules and records."""

    upstream: str
    host: str = ""
    rules: list[Rule] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, method: str, part: str, action: Action, times: int = 1_000_000) -> None:
        """Add a rule; the first that fits is used."""
        self.rules.append(Rule(method, part, action, times))

    def asked(self, method: str = "*", part: str = "") -> list[Seen]:
        """The requests so far of a method whose path has `part` in it."""
        with self.lock:
            return [one for one in self.seen if method in ("*", one.method) and part in one.path]

    def sent(self, part: str = "/blobs/") -> int:
        """The bytes of content that went to clients."""
        return sum(one.sent for one in self.asked("GET", part))

    def action(self, seen: Seen) -> Action:
        with self.lock:
            self.seen.append(seen)
            for rule in self.rules:
                if rule.fits(seen):
                    rule.times -= 1
                    return rule.action
        return Exchange.forward


class Exchange:
    """One request, its way to the registry and back."""

    def __init__(self, handler: Handler, faults: Faults, seen: Seen) -> None:
        self.handler, self.faults, self.seen = handler, faults, seen

    def forward(
        self,
        drop: tuple[str, ...] = (),
        edit: Callable[[int, bytes], bytes] = lambda offset, data: data,
        stop: int | None = None,
        pause: float = 0.0,
    ) -> None:
        """Let it through without the header fields in `drop`.

        `edit` changes each piece of the answer, `stop` ends it there, `pause` makes it come byte by byte.
        """
        header = {k: v for k, v in self.seen.header.items() if k not in (*_HOP, *drop)}
        connection = http.client.HTTPConnection(self.faults.upstream, timeout=30)
        try:
            connection.request(self.seen.method, _path(self.seen.path), self.body(), header)
            response = connection.getresponse()
            self.begin(response.status, [(k, v) for k, v in response.getheaders() if k.lower() not in _HOP])
            offset = 0
            while data := response.read(PIECE):
                left = data if stop is None else data[: max(0, stop - offset)]
                self.write(edit(offset, left), pause)
                offset += len(data)
                if stop is not None and offset >= stop:
                    self.hang_up()
                    return
        finally:
            connection.close()

    def body(self) -> bytes:
        """The content that came with the request."""
        length = int(self.seen.header.get("content-length", "0"))
        data = self.handler.rfile.read(length)
        self.seen.received += len(data)
        return data

    def begin(self, status: int, header: list[tuple[str, str]]) -> None:
        self.handler.send_response_only(status)
        for name, value in header:
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def write(self, data: bytes, pause: float = 0.0) -> None:
        if self.seen.method == "HEAD" or not data:
            return
        for start in range(0, len(data), 1 if pause else len(data)):
            piece = data[start : start + 1] if pause else data
            self.handler.wfile.write(piece)
            self.seen.sent += len(piece)
            if pause and self.faults.over.wait(pause):
                return

    def hang_up(self) -> None:
        """End the connection, whatever was promised on it."""
        self.handler.close_connection = True
        with suppress(OSError):
            self.handler.connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the action of its rule."""

    protocol_version = "HTTP/1.1"
    faults: Faults

    def do_ANY(self) -> None:
        header = {k.lower(): v for k, v in self.headers.items()}
        seen = Seen(self.command, self.path, header, self.client_address[1])
        with suppress(OSError):
            self.faults.action(seen)(Exchange(self, self.faults, seen))

    def do_CONNECT(self) -> None:
        """Be a proxy: whoever is wanted, connect to the upstream."""
        header = {k.lower(): v for k, v in self.headers.items()}
        with self.faults.lock:
            self.faults.seen.append(Seen("CONNECT", self.path, header))
        host, _, port = self.faults.upstream.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response_only(200)
            self.end_headers()
            back = threading.Thread(target=_pipe, args=(there, self.connection))
            back.start()
            _pipe(self.connection, there)
            back.join()
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_ANY  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(PIECE):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that went away is what these tests are about."""


@contextmanager
def before(upstream: str = "127.0.0.1:1", tls: Certificates | None = None) -> Iterator[Faults]:
    """A server before `upstream`; without one it has nothing but its rules. By TLS with the certificates."""
    faults = Faults(upstream)
    with _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"faults": faults})) as server:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.server, tls.server_key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        faults.host = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield faults
        finally:
            faults.over.set()
            server.shutdown()
            thread.join()


def cut(after: int) -> Action:
    """Promise the whole, send so many bytes of it, and hang up."""
    return lambda exchange: exchange.forward(stop=after)


def corrupt(at: int) -> Action:
    """Turn over the bits of one byte."""

    def edit(offset: int, data: bytes) -> bytes:
        place = at - offset
        if not 0 <= place < len(data):
            return data
        return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]

    return lambda exchange: exchange.forward(edit=edit)


def ignore_range() -> Action:
    """Answer with the whole, whatever range was asked for."""
    return lambda exchange: exchange.forward(drop=("range",))


def answer(status: int, body: bytes = b"", **header: str) -> Action:
    """Answer so; underscores in the names of fields are hyphens."""

    def action(exchange: Exchange) -> None:
        exchange.body()
        fields = [(name.replace("_", "-"), value) for name, value in header.items()]
        exchange.begin(status, [*fields, ("Content-Length", str(len(body)))])
        exchange.write(body)

    return action


def redirect(url: str) -> Action:
    """Send the client elsewhere; "{path}" is what it asked for."""
    return lambda exchange: answer(307, Location=url.replace("{path}", exchange.seen.path))(exchange)


def drip(pause: float = 0.02) -> Action:
    """Send a byte every now and then."""
    return lambda exchange: exchange.forward(pause=pause)


def drip_header(pause: float = 0.02) -> Action:
    """Send the header a byte at a time, without an end."""

    def action(exchange: Exchange) -> None:
        exchange.handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not exchange.faults.over.wait(pause):
            exchange.handler.wfile.write(b"x")

    return action


def silence() -> Action:
    """Say nothing until the test is over."""
    return lambda exchange: (exchange.faults.over.wait(60), None)[1]


def cut_upload(after: int) -> Action:
    """Take so many bytes of the content, and hang up."""

    def action(exchange: Exchange) -> None:
        exchange.seen.received += len(exchange.handler.rfile.read(after))
        exchange.hang_up()

    return action


def _path(target: str) -> str:
    """The path of a request, which is a whole URL when it comes to a proxy."""
    parts = urlsplit(target)
    return parts._replace(scheme="", netloc="").geturl()
