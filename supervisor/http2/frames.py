"""HTTP/2 frames, without I/O (RFC 9113, sections 4, 6 and 7)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins with (3.4)."""

DEFAULT_FRAME_BYTES = 16_384
"""The payload that every peer takes (6.5.2, SETTINGS_MAX_FRAME_SIZE)."""

DEFAULT_WINDOW = 65_535
"""Bytes that may be sent before the other side has said anything (6.9.2)."""

MAX_WINDOW = (1 << 31) - 1

_HEAD = struct.Struct(">HBBBI")
_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")
HEAD_BYTES = _HEAD.size
_PRIORITY_BYTES = 5


class Type(IntEnum):
    """Types of frames (6); those not listed are ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntEnum):
    """Flags of frames; `END_STREAM` and `ACK` are one bit, of different types.

    Joined they are plain numbers: an IntFlag makes a member of each sum, at every frame.
    """

    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Setting(IntEnum):
    """Settings that concern us (6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends (7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Violation(Exception):
    """The peer broke a rule that the whole connection depends on (5.4.1): it is told why, and that was it."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(f"{code.name}: {text}")
        self.code = code
        self.text = text


Frame = tuple[int, int, int, bytes]
"""Type, flags, stream and payload."""


class Reader:
    """Cuts what arrives into frames; keeps the incomplete rest."""

    def __init__(self) -> None:
        self._rest = b""
        self._greeted = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete; raises Violation for what is not HTTP/2, or too large."""
        if self._rest:
            data = self._rest + data
        start = 0
        if not self._greeted:
            if not data.startswith(PREFACE):
                self._rest = _beginning(data)
                return
            self._greeted, start = True, len(PREFACE)
        end = len(data)
        while end - start >= HEAD_BYTES:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, start)
            stop = start + HEAD_BYTES + (high << 8 | low)
            if stop - start - HEAD_BYTES > DEFAULT_FRAME_BYTES:
                raise Violation(Code.FRAME_SIZE_ERROR, f"a frame of {high << 8 | low} bytes")
            if stop > end:
                break
            yield kind, flags, stream & MAX_WINDOW, data[start + HEAD_BYTES : stop]
            start = stop
        self._rest = data[start:]


def _beginning(data: bytes) -> bytes:
    """The data, if it may become the preface."""
    if not PREFACE.startswith(data):
        raise Violation(Code.PROTOCOL_ERROR, "this is not HTTP/2 with prior knowledge")
    return data


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The head of a frame whose payload has `length` bytes."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return head(len(payload), kind, flags, stream) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """A SETTINGS frame (6.5)."""
    return frame(Type.SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def parse_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Identifiers and values of a SETTINGS frame."""
    if len(payload) % _SETTING.size:
        raise Violation(Code.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    return _SETTING.iter_unpack(payload)


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame (6.9); stream 0 is the connection."""
    return frame(Type.WINDOW_UPDATE, 0, stream, _NUMBER.pack(increment))


def reset(stream: int, code: Code) -> bytes:
    """A RST_STREAM frame (6.4)."""
    return frame(Type.RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway(last_stream: int, code: Code, text: str = "") -> bytes:
    """A GOAWAY frame (6.8): streams after `last_stream` were not looked at."""
    return frame(Type.GOAWAY, 0, 0, _NUMBER.pack(last_stream) + _NUMBER.pack(code) + text.encode())


def number(payload: bytes, what: str) -> int:
    """The one number of 31 bits that a WINDOW_UPDATE has, or of 32 that a RST_STREAM has."""
    if len(payload) != _NUMBER.size:
        raise Violation(Code.FRAME_SIZE_ERROR, f"{what} of {len(payload)} bytes")
    value: int = _NUMBER.unpack(payload)[0]
    return value


def unpadded(flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame holds without its padding (6.1)."""
    if not flags & Flag.PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Violation(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def without_priority(flags: int, payload: bytes) -> bytes:
    """What a HEADERS frame holds behind its padding's length and its priority, which says nothing to us."""
    payload = unpadded(flags, payload)
    if not flags & Flag.PRIORITY:
        return payload
    if len(payload) < _PRIORITY_BYTES:
        raise Violation(Code.FRAME_SIZE_ERROR, "HEADERS too short for their priority")
    return payload[_PRIORITY_BYTES:]
