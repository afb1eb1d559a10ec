"""Calls on a ttrpc connection, without I/O: requests, responses and the rules of stream ids.

containerd: ttrpc/client.go, ttrpc/server.go. `Caller` is the client's half of a connection and
`Callee` the server's; `blocking` and `aio` only move their bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from supervisor.errors import InvalidArgument, ResourceExhausted, SupervisorError, Unimplemented
from supervisor.model.record import record
from supervisor.ttrpc import status
from supervisor.ttrpc.protobuf import Fields, Layout
from supervisor.ttrpc.wire import DATA, MAX_PAYLOAD, REQUEST, RESPONSE, Decoder, Frame, Oversized, encode

if TYPE_CHECKING:
    from google.protobuf.message import Message

NANOS = 1_000_000_000
NAMESPACE_KEY = "containerd-namespace-ttrpc"

_REQUEST = Layout("service method payload timeout_nano metadata", "service method")
_KEY_VALUE = Layout("key value", "key value")
_RESPONSE = Layout("status payload")
_STATUS = Layout("code message", "message")

M = TypeVar("M", bound="Message")

Metadata = Iterable[tuple[str, str]]


class ConnectionClosed(SupervisorError):
    """The connection ended, whoever ended it; what becomes of calls in flight is unknown."""

    def __init__(self, text: str = "ttrpc: closed") -> None:
        super().__init__(text)


class Decoding(Protocol):
    """What makes a request out of bytes: a generated class of messages, or a `Layout`."""

    def FromString(self, data: bytes, /) -> Any:  # noqa: N802  # as generated classes have it
        """Decode; raises whatever its kind raises."""


class Encoding(Protocol):
    """A reply that can be encoded: a generated message."""

    def SerializeToString(self) -> bytes:  # noqa: N802  # as generated classes have it
        """The encoded message."""


@record
class Call:
    """What a handler learns of its call beside the request; `deadline` is on the monotonic clock."""

    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    deadline: float | None = None

    def remaining(self) -> float | None:
        """Seconds left until the deadline, never below zero; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


@record
class Method:
    """One method of a service.

    `handler(request, call)` answers the response, a message or an encoded one, or a coroutine of it.
    """

    request_type: Decoding
    handler: Callable[[Any, Call], Any]


Services = Mapping[str, Mapping[str, Method]]


@record
class Incoming:
    """A call that has arrived, its method found and its request decoded."""

    stream: int
    method: Method
    request: Any
    call: Call


@record
class Refusal:
    """An answer to be sent at once; no handler is concerned."""

    frame: bytes


def success(stream: int, reply: Encoding | bytes) -> bytes:
    """The frame that answers a call with `reply`."""
    encoded = reply if isinstance(reply, bytes) else reply.SerializeToString()
    payload = _RESPONSE.encode(payload=encoded or None)
    if len(payload) > MAX_PAYLOAD:
        return failure(stream, _too_long(len(payload)))
    return encode(Frame(stream, RESPONSE, 0, payload))


def failure(stream: int, error: BaseException) -> bytes:
    """The frame that answers a call with an error."""
    code, text = status.from_error(error)
    # An error's text can hold a whole log; the frame that carries it has the same limit as any other.
    told = _STATUS.encode(code=code, message=text[: MAX_PAYLOAD // 8])
    return encode(Frame(stream, RESPONSE, 0, _RESPONSE.encode(status=told)))


class Callee:
    """The server's half of one connection: bytes in, calls and refusals out."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._decoder = Decoder()
        self._last_stream = 0
        self._open: set[int] = set()

    def feed(self, data: bytes) -> Iterator[Incoming | Refusal]:
        """Take in bytes; yield what they complete, in the order of arrival."""
        for frame in self._decoder.feed(data):
            event = self._take(frame)
            if event is not None:
                yield event

    def done(self, stream: int) -> None:
        """Note that a call has been answered."""
        self._open.discard(stream)

    def _take(self, frame: Frame | Oversized) -> Incoming | Refusal | None:
        try:
            if isinstance(frame, Oversized):
                raise _too_long(frame.length)
            if frame.type == DATA and frame.stream not in self._open:
                raise InvalidArgument("StreamID is no longer active")
            return self._request(frame) if frame.type == REQUEST else None
        except SupervisorError as error:
            return Refusal(failure(frame.stream, error))

    def _request(self, frame: Frame) -> Incoming:
        if frame.stream % 2 == 0:
            raise InvalidArgument("StreamID must be odd for client initiated streams")
        if frame.stream <= self._last_stream:
            raise InvalidArgument("StreamID cannot be re-used and must increment")
        self._last_stream = frame.stream
        envelope: Fields = _parse(_REQUEST, frame.payload)
        method = self._find(envelope.text("service"), envelope.text("method"))
        request = _parse(method.request_type, envelope.data("payload"))
        self._open.add(frame.stream)
        return Incoming(frame.stream, method, request, _call(envelope))

    def _find(self, service: str, method: str) -> Method:
        methods = self._services.get(service)
        if methods is None:
            raise Unimplemented(f"service {service}")
        if method not in methods:
            raise Unimplemented(f"method {method}")
        return methods[method]


@record
class Answer:
    """What came back for one stream: a payload to decode, or an error."""

    stream: int
    result: bytes | SupervisorError

    def decode(self, kind: type[M]) -> M:
        """The reply; raises the error that was sent instead of one."""
        if isinstance(self.result, SupervisorError):
            raise self.result
        try:
            return kind.FromString(self.result)
        # As in _parse.
        except Exception as error:
            raise SupervisorError(f"the reply is no {kind.__name__}: {error}") from error


class Caller:
    """The client's half of one connection. Ids must rise on the wire: write in the order of `request`."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._next_stream = 1

    def request(
        self,
        service: str,
        method: str,
        request: Encoding | bytes,
        timeout: float | None,
        metadata: Metadata,
    ) -> tuple[int, bytes]:
        """Stream id and frame of a new call; `timeout` in seconds is told to the server."""
        encoded = request if isinstance(request, bytes) else request.SerializeToString()
        payload = _REQUEST.encode(
            service=service,
            method=method,
            payload=encoded or None,
            # Zero means "no limit" on the wire; a limit of zero seconds has expired.
            timeout_nano=None if timeout is None else int(timeout * NANOS) or -1,
            metadata=[_KEY_VALUE.encode(key=key.lower(), value=value) for key, value in metadata],
        )
        if len(payload) > MAX_PAYLOAD:
            raise _too_long(len(payload))
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        return stream, encode(Frame(stream, REQUEST, 0, payload))

    def feed(self, data: bytes) -> Iterator[Answer]:
        """Take in bytes; yield the answers they complete."""
        for frame in self._decoder.feed(data):
            if isinstance(frame, Oversized):
                yield Answer(frame.stream, _too_long(frame.length))
            elif frame.type == RESPONSE:
                yield Answer(frame.stream, _result(frame.payload))


def _result(payload: bytes) -> bytes | SupervisorError:
    try:
        response = _RESPONSE.FromString(payload)
        told = _STATUS.FromString(response.data("status"))
    except ValueError as error:
        return SupervisorError(f"unmarshal response error: {error}")
    if told.signed("code"):
        return status.to_error(told.signed("code"), told.text("message"))
    return response.data("payload")


def _parse(kind: Decoding, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    # Google's classes have an error of their own, and a shim does without their library.
    except Exception as error:
        raise InvalidArgument(f"unmarshal request error: {error}") from error


def _call(envelope: Fields) -> Call:
    metadata: dict[str, tuple[str, ...]] = {}
    for entry in envelope.each("metadata"):
        pair = _parse(_KEY_VALUE, entry)
        metadata[pair.text("key")] = (*metadata.get(pair.text("key"), ()), pair.text("value"))
    left = envelope.signed("timeout_nano")
    return Call(metadata, time.monotonic() + left / NANOS) if left else Call(metadata)


def _too_long(length: int) -> ResourceExhausted:
    return ResourceExhausted(f"message length {length} exceed maximum message size of {MAX_PAYLOAD}")
