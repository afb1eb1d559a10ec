"""Protobuf's wire format, by hand, for processes that have to stay small (protobuf.dev: encoding).

Google's library with its descriptors costs a shim four megabytes and its start a third of the time,
for some thirty messages of which most have three fields. A `Layout` is what is needed of a `.proto`:
names in the order of their numbers. `/api` stays the truth; tests hold every layout to it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NOT_UTF8 = "string field contains invalid UTF-8"
_ALL_BITS = (1 << 64) - 1

Value = int | float | str | bytes | Iterable[Any] | None


class Fields:
    """A decoded message: each name with all that was sent of it; numbers, or bytes."""

    __slots__ = ("_found",)

    def __init__(self, found: dict[str, list[Any]]) -> None:
        self._found = found

    def each(self, name: str) -> list[Any]:
        """All that was sent of a repeated field."""
        return self._found.get(name, [])

    def number(self, name: str) -> int:
        """An unsigned field; 0 when it was not sent, as everywhere in proto3."""
        value = self._last(name)
        return value if isinstance(value, int) else 0

    def signed(self, name: str) -> int:
        """An `int32`, `int64` or enum."""
        value = self.number(name)
        return value - (1 << 64) if value >> 63 else value

    def flag(self, name: str) -> bool:
        """A `bool`."""
        return bool(self.number(name))

    def data(self, name: str) -> bytes:
        """A `bytes` field, or an encoded message."""
        value = self._last(name)
        return value if isinstance(value, bytes) else b""

    def text(self, name: str) -> str:
        """A `string`; it was seen to be UTF-8 when it was decoded."""
        return self.data(name).decode()

    def _last(self, name: str) -> int | bytes | None:
        """What was sent last; one that came in another form than its kind's counts as unknown."""
        found = self._found.get(name)
        return found[-1] if found else None


class Layout:
    """A message's fields: their names in the order of their numbers, `-` for a number that is not used.

    `strings` are those of them whose encoding has to be checked.
    """

    __slots__ = ("names", "numbers", "strings")

    def __init__(self, names: str, strings: str = "") -> None:
        self.numbers = {name: number for number, name in enumerate(names.split(), 1) if name != "-"}
        self.names = {number: name for name, number in self.numbers.items()}
        self.strings = frozenset(strings.split())

    def encode(self, **values: Value) -> bytes:
        """An encoded message. Left out are None, 0, false and empty text; bytes are sent even if empty,
        since they may be a message; of an iterable each element is sent."""
        message = bytearray()
        for name, value in values.items():
            if value is not None:
                _append(message, self.numbers[name], value)
        return bytes(message)

    def encode_known(self, values: Mapping[str, int]) -> bytes:
        """Those values that the layout has a name for, encoded."""
        return self.encode(**{name: value for name, value in values.items() if name in self.numbers})

    def packed(self, name: str, values: Iterable[int]) -> bytes:
        """A repeated field of numbers, to be appended to an encoded message."""
        message, numbers = bytearray(), bytearray()
        for value in values:
            _append_number(numbers, value)
        if numbers:
            _append(message, self.numbers[name], bytes(numbers))
        return bytes(message)

    def FromString(self, data: bytes) -> Fields:  # noqa: N802  # as generated classes have it
        """Decode a message; raises ValueError. What the layout has no name for is passed over."""
        found: dict[str, list[Any]] = {}
        at = 0
        while at < len(data):
            key, at = _number(data, at)
            value, at = _value(data, at, key & 7)
            name = self.names.get(key >> 3)
            if name is not None:
                if name in self.strings:
                    _check_text(value)
                found.setdefault(name, []).append(value)
            elif key < 8:
                raise ValueError("field number 0")
        return Fields(found)


ANY = Layout("type_url value", "type_url")
TIMESTAMP = Layout("seconds nanos")


def any_of(name: str, message: bytes) -> bytes:
    """A message as Any under its bare name, without the prefix that protobuf's own Pack adds."""
    return ANY.encode(type_url=name, value=message)


def _check_text(value: Any) -> None:
    if not isinstance(value, bytes):
        raise ValueError("a string was expected")
    try:
        value.decode()
    except UnicodeDecodeError:
        raise ValueError(_NOT_UTF8) from None


def _append(message: bytearray, number: int, value: Value) -> None:
    """Append a field. Written for few and simple steps: each kind of step costs a forked process pages."""
    if isinstance(value, int):
        if value:
            _append_number(message, number << 3)
            _append_number(message, value)
    elif isinstance(value, bytes):
        _append_bytes(message, number, value)
    elif isinstance(value, str):
        if value:
            _append_bytes(message, number, value.encode())
    elif isinstance(value, float):
        if value:
            _append_number(message, number << 3 | _FIXED64)
            message += struct.pack("<d", value)
    elif value is not None:
        for one in value:
            _append(message, number, one)


def _append_bytes(message: bytearray, number: int, value: bytes) -> None:
    _append_number(message, number << 3 | _BYTES)
    _append_number(message, len(value))
    message += value


def _append_number(message: bytearray, value: int) -> None:
    """Seven bits a byte, the lowest first; a negative number as its 64 bits."""
    if value < 0:
        value &= _ALL_BITS
    while value > 0x7F:
        message.append(value & 0x7F | 0x80)
        value >>= 7
    message.append(value)


def _value(data: bytes, at: int, kind: int) -> tuple[int | bytes, int]:
    """A field's value, and where the next field begins."""
    if kind == _VARINT:
        return _number(data, at)
    if kind == _BYTES:
        length, at = _number(data, at)
    elif kind == _FIXED64:
        length = 8
    elif kind == _FIXED32:
        length = 4
    else:
        raise ValueError(f"wire type {kind}")
    end = at + length
    if end > len(data):
        raise ValueError("truncated message")
    return data[at:end], end


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _ALL_BITS, at
        shift += 7
    raise ValueError("truncated number")
