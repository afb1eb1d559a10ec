"""A connection: its rules, its windows, and the streams on it (RFC 9113, sections 3, 5 and 6)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any as Anything
from typing import cast

from supervisor.errors import SupervisorError, Unimplemented
from supervisor.http2 import calls, frames
from supervisor.http2.calls import Call, Head, Peer
from supervisor.http2.decoder import MAX_LIST_BYTES
from supervisor.http2.frames import Code, Flag, Setting, Type, Violation
from supervisor.http2.header_blocks import EMPTY_TABLE, Blocks
from supervisor.http2.methods import Method
from supervisor.http2.stream import REFUSED, WINDOW, Stream

log = logging.getLogger(__name__)

CONNECTION_WINDOW = 16 << 20
"""Bytes that a client may send on all its streams before we have taken any."""

MAX_STREAMS = 65_536
"""Calls of one connection at once. Clients that wait for every container have thousands."""

MAX_BLOCK_BYTES = 2 * MAX_LIST_BYTES
"""A block of headers as it travels, at most: also one whose end never comes takes memory."""

MAX_UNREAD_BYTES = 8 << 20
"""What a client does not read of answers and acknowledgements, at most; then it is not served any more."""

_WRITE_BYTES = 256 << 10
"""What is handed to the transport in one piece."""

Admit = Callable[[Call], None]
"""Raises the error with which a call is refused, for instance PermissionDenied."""


@dataclass(slots=True)
class Offer:
    """What a server's connections share: the methods, who may call them, and the owner of their tasks."""

    methods: Mapping[str, Method]
    absent: Mapping[str, str]
    group: asyncio.TaskGroup
    max_message_bytes: int
    admit: Admit | None = None
    connections: set[Connection] = field(default_factory=set)

    def find(self, head: Head) -> Method:
        """The method that a call wants; raises what it is refused with."""
        if head.problem is not None:
            raise head.problem
        call = head.call
        method = self.methods.get(call.method)
        if method is None:
            raise Unimplemented(self._why_not(call.method))
        if self.admit is not None:
            self.admit(call)
        return method

    def _why_not(self, path: str) -> str:
        service, _, method = path.strip("/").rpartition("/")
        if service in self.absent:
            return f"{path}: this version does not offer {self.absent[service]}"
        if any(name.startswith(f"/{service}/") for name in self.methods):
            return f"{path} is not offered by this version: unknown method {method} for service {service}"
        return f"unknown service {service}"


class Connection(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._reader = frames.Reader()
        self._transport: asyncio.Transport | None = None
        self._blocks: Blocks[Head] = Blocks(calls.read)
        self._streams: dict[int, Stream] = {}
        self._last = 0  # the newest stream of the client
        self._block: tuple[int, int, bytearray] | None = None  # a block whose end has not come
        self._window = frames.DEFAULT_WINDOW  # bytes that the client takes on all streams
        self._stream_window = frames.DEFAULT_WINDOW
        self._frame_bytes = frames.DEFAULT_FRAME_BYTES
        self._owed = 0
        self._prelude = EMPTY_TABLE
        self._leaving = False
        self._room: asyncio.Future[None] | None = None
        self._paused = False
        self._act = {
            Type.DATA: self._on_data,
            Type.HEADERS: self._on_headers,
            Type.PRIORITY: self._on_priority,
            Type.RST_STREAM: self._on_reset,
            Type.SETTINGS: self._on_settings,
            Type.PUSH_PROMISE: self._on_push,
            Type.PING: self._on_ping,
            Type.GOAWAY: self._on_goaway,
            Type.WINDOW_UPDATE: self._on_window_update,
            Type.CONTINUATION: self._on_continuation,
        }
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say our settings."""
        self._transport = cast("asyncio.Transport", transport)
        self._blocks = Blocks(partial(calls.read, peer=Peer.of(transport.get_extra_info("socket"))))
        self._offer.connections.add(self)
        values = {Setting.INITIAL_WINDOW_SIZE: WINDOW, Setting.MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES}
        more = CONNECTION_WINDOW - frames.DEFAULT_WINDOW
        self._write(frames.settings(values) + frames.window_update(0, more))

    def data_received(self, data: bytes) -> None:
        """Act on each frame that is complete."""
        try:
            for kind, flags, stream, payload in self._reader.feed(data):
                if self._block is not None and kind != Type.CONTINUATION:
                    raise Violation(Code.PROTOCOL_ERROR, "a block of headers is interrupted")
                act = self._act.get(cast("Type", kind))
                if act is not None:
                    act(flags, stream, payload)
        except Violation as broken:
            self._hang_up(broken)
        if self._owed >= CONNECTION_WINDOW // 2:
            self.credit(0, self._owed)
            self._owed = 0

    def pause_writing(self) -> None:
        """The client does not read: whatever has more to say waits."""
        self._paused = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all calls."""
        self._offer.connections.discard(self)
        for stream in list(self._streams.values()):
            stream.cancel()
        self._streams.clear()
        self._make_room()
        if not self.lost.done():
            self.lost.set_result(None)

    # What the server calls.

    def leave(self) -> None:
        """Take no new calls; the client may finish those it has (6.8)."""
        if not self._leaving:
            self._leaving = True
            self._write(frames.goaway(self._last, Code.NO_ERROR, "the daemon stops"))
            self._close_if_done()

    def end(self) -> None:
        """Close without waiting for answers."""
        if self._transport is not None:
            self._transport.abort()

    # What streams call.

    def work(self, stream: Stream, work: Coroutine[Anything, Anything, None]) -> None:
        """Have the work of a stream done in a task of its own."""
        stream.task = self._offer.group.create_task(work)

    def credit(self, number: int, size: int) -> None:
        """Let the client send so many bytes more on a stream, or on the connection, which is 0."""
        self._write(frames.window_update(number, size))

    def reset(self, stream: Stream, code: Code) -> None:
        """End a stream that broke a rule."""
        self._write(frames.reset(stream.number, code))
        self._streams.pop(stream.number, None)
        stream.cancel()

    def forget(self, stream: Stream) -> None:
        """The stream is done."""
        self._streams.pop(stream.number, None)
        self._close_if_done()

    async def send(self, stream: Stream, opening: bytes, data: bytes, closing: bytes = b"") -> None:
        """Send headers, then data as the windows allow, then trailers; what is empty is not sent."""
        number, size = stream.number, len(data)
        parts = [self._headers(number, opening, 0)] if opening else []
        if not self._paused and size <= min(stream.window, self._window, self._frame_bytes):
            if data:  # as most answers: all of it in one piece
                parts += (frames.head(size, Type.DATA, 0, number), data)
                stream.window -= size
                self._window -= size
        else:
            self._write(b"".join(parts))
            parts = []
            await self._send_slowly(stream, memoryview(data))
        if closing:
            parts.append(self._headers(number, closing, Flag.END_STREAM))
        self._write(b"".join(parts))

    async def _send_slowly(self, stream: Stream, data: memoryview) -> None:
        while data:
            room = min(len(data), stream.window, self._window, _WRITE_BYTES)
            if room <= 0 or self._paused:
                await self._wait_for_room()
                continue
            pieces: list[bytes | memoryview] = []
            for start in range(0, room, self._frame_bytes):
                piece = data[start : min(start + self._frame_bytes, room)]
                pieces += (frames.head(len(piece), Type.DATA, 0, stream.number), piece)
            stream.window -= room
            self._window -= room
            data = data[room:]
            self._write(b"".join(pieces))

    def _headers(self, number: int, block: bytes, flags: int) -> bytes:
        block, self._prelude = self._prelude + block, b""
        return frames.frame(Type.HEADERS, flags | Flag.END_HEADERS, number, block)

    async def _wait_for_room(self) -> None:
        if self._room is None or self._room.done():
            self._room = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._room)

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if not data or transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            log.warning("a client reads nothing of what it is sent; the connection ends")
            transport.abort()
            return
        transport.write(data)

    def _close_if_done(self) -> None:
        if self._leaving and not self._streams and self._transport is not None:
            self._transport.close()

    def _hang_up(self, broken: Violation) -> None:
        log.warning("a client broke the rules of HTTP/2: %s", broken)
        if self._transport is not None:
            self._write(frames.goaway(self._last, broken.code, broken.text))
            self._transport.close()

    # What clients send.

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        block = frames.without_priority(flags, payload)
        if flags & Flag.END_HEADERS:
            self._on_block(flags, number, block)
        else:
            self._block = (flags, number, bytearray(block))

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[1] != number:
            raise Violation(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block = self._block[2]
        block += payload
        if len(block) > MAX_BLOCK_BYTES:
            raise Violation(Code.ENHANCE_YOUR_CALM, f"headers of more than {MAX_BLOCK_BYTES} bytes")
        if flags & Flag.END_HEADERS:
            first_flags, self._block = self._block[0], None
            self._on_block(first_flags, number, bytes(block))

    def _on_block(self, flags: int, number: int, block: bytes) -> None:
        """Begin the call that a block of headers is; what ends a stream of requests says nothing."""
        head = self._blocks.decode(block)
        end = bool(flags & Flag.END_STREAM)
        if number <= self._last:
            known = self._streams.get(number)
            if known is not None and end:
                known.receive(b"", 0, end=True)
            return
        if number % 2 == 0:
            raise Violation(Code.PROTOCOL_ERROR, f"stream {number} is not a client's")
        self._last = number
        if self._leaving or len(self._streams) >= MAX_STREAMS:
            self._write(frames.reset(number, Code.REFUSED_STREAM))
            return
        self._begin(number, head, end=end)

    def _begin(self, number: int, head: Head, *, end: bool) -> None:
        if head.http_status != b"200":
            self._write(self._headers(number, calls.refusal(head.http_status), Flag.END_STREAM))
            return
        limit, window = self._offer.max_message_bytes, self._stream_window
        try:
            stream = Stream(self, number, head, self._offer.find(head), window, limit)
            stream.start()
        except SupervisorError as error:
            stream = Stream(self, number, head, REFUSED, window, limit)
            stream.refuse(error)
        self._streams[number] = stream
        if end:
            stream.receive(b"", 0, end=True)

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        flow = len(payload)
        self._owed += flow
        stream = self._streams.get(number)
        if stream is None or stream.ended:
            self._check_opened(number)
            return
        stream.receive(frames.unpadded(flags, payload), flow, end=bool(flags & Flag.END_STREAM))

    def _on_reset(self, flags: int, number: int, payload: bytes) -> None:
        frames.number(payload, "RST_STREAM")
        self._check_opened(number)
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.cancel()
            self._close_if_done()

    def _on_window_update(self, flags: int, number: int, payload: bytes) -> None:
        increment = frames.number(payload, "WINDOW_UPDATE") & frames.MAX_WINDOW
        if not increment:
            raise Violation(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        if number == 0:
            self._window += increment
            if self._window > frames.MAX_WINDOW:
                raise Violation(Code.FLOW_CONTROL_ERROR, "the connection's window is too large")
        elif (stream := self._streams.get(number)) is not None:
            stream.window += increment
            if stream.window > frames.MAX_WINDOW:
                self.reset(stream, Code.FLOW_CONTROL_ERROR)
        else:
            self._check_opened(number)
        self._make_room()

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Violation(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & Flag.ACK:
            return
        for setting, value in frames.parse_settings(payload):
            if setting == Setting.INITIAL_WINDOW_SIZE:
                self._resize_windows(value)
            elif setting == Setting.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_BYTES <= value < 1 << 24:
                    raise Violation(Code.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE of {value}")
                self._frame_bytes = min(value, _WRITE_BYTES)
        self._write(frames.frame(Type.SETTINGS, Flag.ACK, 0))
        self._make_room()

    def _resize_windows(self, value: int) -> None:
        """All streams' windows change by as much as the initial one does (6.9.2)."""
        if value > frames.MAX_WINDOW:
            raise Violation(Code.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE of {value}")
        for stream in self._streams.values():
            stream.window += value - self._stream_window
        self._stream_window = value

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            raise Violation(Code.PROTOCOL_ERROR, "a malformed PING")
        if not flags & Flag.ACK:
            self._write(frames.frame(Type.PING, Flag.ACK, 0, payload))

    def _on_priority(self, flags: int, number: int, payload: bytes) -> None:
        """Priorities are advice that we do not take (5.3)."""

    def _on_goaway(self, flags: int, number: int, payload: bytes) -> None:
        """The client begins no more calls; those it has are finished."""

    def _on_push(self, flags: int, number: int, payload: bytes) -> None:
        raise Violation(Code.PROTOCOL_ERROR, "a client cannot push")

    def _check_opened(self, number: int) -> None:
        """Frames may come late for a stream that is over, never for one that has not begun (5.1)."""
        if number == 0 or number > self._last:
            raise Violation(Code.PROTOCOL_ERROR, f"a frame of stream {number}, which has not begun")
