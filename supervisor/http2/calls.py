"""What gRPC makes of a request's headers and of an answer's end (gRPC: PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote

from supervisor.errors import InvalidArgument, SupervisorError, Unimplemented
from supervisor.http2.header_blocks import Fields, literal
from supervisor.ttrpc import status

MAX_TEXT_BYTES = 6000
"""What a status's text takes at most: it travels as a header, and clients give up on a call whose headers
exceed 8 KiB; they would see another code. What a request names can be as large as a message."""

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_LONGEST_SECONDS = 1e7
"""A later deadline is none: nothing here runs for four months."""

_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_CREDENTIALS = struct.Struct("3i")

OPENING = b"\x88" + literal(b"content-type", b"application/grpc")
"""The headers in front of the first message: `:status 200`, which is in the static table, and the type."""

SUCCESS = literal(b"grpc-status", b"0")
"""The trailers of a call that succeeded."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a socket, as the kernel knows (unix(7), SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, connected: socket.socket) -> Peer:
        """The peer of a connected unix socket."""
        option = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return cls(*_CREDENTIALS.unpack(option))


@dataclass(frozen=True, slots=True)
class Call:
    """What a method is told beside its request: it can be one value for many calls."""

    method: str
    """`/package.Service/Method`."""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Names in lower case; the first value of each. What is not ASCII in a value is escaped."""
    peer: Peer | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The headers of a request."""

    call: Call
    timeout: float | None = None
    """Seconds that the client waits."""
    gzipped: bool = False
    """Whether messages that are marked as compressed are so by gzip."""
    http_status: bytes = b"200"
    """Another one if this is no call of gRPC at all, and is answered with it."""
    problem: SupervisorError | None = None
    """Why the call cannot be served, whatever its method is."""


def read(fields: Fields, peer: Peer | None = None) -> Head:
    """The head that a block of headers is."""
    path = fields.get(b":path", b"").decode(errors="backslashreplace")
    metadata = {
        name.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
        for name, value in fields.items()
        if not name.startswith(b":")
    }
    call = Call(path, MappingProxyType(metadata), peer)
    if fields.get(b":method") != b"POST":
        return Head(call, http_status=b"405")
    if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
        return Head(call, http_status=b"415")
    encoding = fields.get(b"grpc-encoding", b"identity")
    problem: SupervisorError | None = None
    if encoding not in (b"identity", b"gzip"):
        problem = Unimplemented(f"{path}: messages compressed by {encoding!r}; gzip is understood")
    try:
        timeout = _timeout(fields.get(b"grpc-timeout"))
    except InvalidArgument as error:
        timeout, problem = None, error
    return Head(call, timeout, encoding == b"gzip", problem=problem)


def _timeout(text: bytes | None) -> float | None:
    """The seconds that a grpc-timeout says."""
    if text is None:
        return None
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"grpc-timeout {text!r} is malformed")
    seconds = int(match[1]) * _SECONDS[match[2]]
    return seconds if seconds < _LONGEST_SECONDS else None


def trailers(error: BaseException) -> bytes:
    """The trailers of a call that ended with this error."""
    code, text = status.from_error(error)
    message = quote(_bounded(text), safe=_PRINTABLE).encode()
    return literal(b"grpc-status", str(code).encode()) + literal(b"grpc-message", message)


def refusal(http_status: bytes) -> bytes:
    """The headers that answer what is no call of gRPC."""
    return literal(b":status", http_status)


def _bounded(text: str) -> str:
    """The text with its middle left out if it is too long: its end has the class of the error.

    What names of files have that is no UTF-8 is written in escapes.
    """
    text = text.encode(errors="backslashreplace").decode()
    kept, half = text, MAX_TEXT_BYTES // 2
    while len(kept) > MAX_TEXT_BYTES or len(quote(kept, safe=_PRINTABLE)) > MAX_TEXT_BYTES:
        kept = f"{text[:half]} ... {text[-half:]}"
        half -= half // 4
    return kept
