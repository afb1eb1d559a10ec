"""Frames of ttrpc, without I/O: bytes in, frames out (containerd: ttrpc/channel.go).

A frame is a header of ten bytes (length of the payload, stream id, type, flags; big-endian) and a
payload of at most 4 MiB. A longer one must be read past, so that the connection stays usable.
"""

from __future__ import annotations

import struct

from supervisor.model.record import record

HEADER = struct.Struct(">IIBB")
MAX_PAYLOAD = 4 << 20

REQUEST = 1
RESPONSE = 2
DATA = 3

REMOTE_CLOSED = 0x01
REMOTE_OPEN = 0x02
NO_DATA = 0x04


@record
class Frame:
    """One frame; `stream` pairs a response with its request."""

    stream: int
    type: int
    flags: int
    payload: bytes


@record
class Oversized:
    """A frame whose payload of `length` bytes is above the limit and is being thrown away."""

    stream: int
    type: int
    length: int


def encode(frame: Frame) -> bytes:
    """The bytes of a frame; the caller keeps the payload within MAX_PAYLOAD."""
    return HEADER.pack(len(frame.payload), frame.stream, frame.type, frame.flags) + frame.payload


class Decoder:
    """Cuts a stream of bytes, arriving in pieces of any size, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._to_skip = 0

    def feed(self, data: bytes) -> list[Frame | Oversized]:
        """Take in `data`; return what is complete, an oversized frame as soon as its header is."""
        self._buffer += data
        frames: list[Frame | Oversized] = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | Oversized | None:
        self._skip()
        if self._to_skip or len(self._buffer) < HEADER.size:
            return None
        length, stream, kind, flags = HEADER.unpack_from(self._buffer)
        if length > MAX_PAYLOAD:
            self._to_skip = HEADER.size + length
            return Oversized(stream, kind, length)
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(memoryview(self._buffer)[HEADER.size : end])
        del self._buffer[:end]
        return Frame(stream, kind, flags, payload)

    def _skip(self) -> None:
        dropped = min(self._to_skip, len(self._buffer))
        del self._buffer[:dropped]
        self._to_skip -= dropped
