"""Header blocks: what clients send, read once and remembered, and what we answer (RFC 7541).

A client of gRPC sends the same headers with every call of a method, and after the first time most of
them as the same few bytes: references into a table that both sides keep. As long as that table does
not change, a block means what it meant before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import hpack

from supervisor.http2.frames import Code, Violation

T = TypeVar("T")
Fields = dict[bytes, bytes]

MAX_LIST_BYTES = 65_536
"""Names and values of one block at most, with 32 bytes for each; for SETTINGS_MAX_HEADER_LIST_SIZE."""

_REMEMBERED = 256
"""Blocks of a connection that are remembered."""

_INDEXED = 0x80
_LITERAL_INDEXED = 0x40
_TABLE_SIZE = 0x20

EMPTY_TABLE = bytes([_TABLE_SIZE])
"""Says, in front of the first block of ours, that we keep no table, so that clients keep none of ours."""


class Blocks(Generic[T]):
    """Reads the blocks of one connection, in their order."""

    def __init__(self, read: Callable[[Fields], T]) -> None:
        """`read` makes of a block's fields what is wanted of them; of doubled fields it gets the first."""
        self._read = read
        self._decoder = hpack.Decoder(max_header_list_size=MAX_LIST_BYTES)
        self._known: dict[bytes, T] = {}

    def decode(self, block: bytes) -> T:
        """What `read` made of the block's fields; raises Violation when it cannot be decoded."""
        known = self._known.get(block)
        if known is not None:
            return known
        changes = _changes_the_table(block)
        try:
            fields: Fields = {}
            for name, value in self._decoder.decode(block, raw=True):
                fields.setdefault(_octets(name), _octets(value))
        except hpack.HPACKError as error:
            raise Violation(Code.COMPRESSION_ERROR, str(error) or type(error).__name__) from error
        found = self._read(fields)
        if changes or len(self._known) >= _REMEMBERED:
            self._known.clear()
        if not changes:
            self._known[block] = found
        return found


def _octets(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _changes_the_table(block: bytes) -> bool:
    """Whether the block adds to the table or resizes it (6.2.1, 6.3); one that is malformed may."""
    place, end = 0, len(block)
    while place < end:
        first = block[place]
        if first & _INDEXED:
            _, place = _integer(block, place, 7)
            continue
        if first & (_LITERAL_INDEXED | _TABLE_SIZE):
            return True
        name, place = _integer(block, place, 4)
        for _ in range(1 if name else 2):
            length, place = _integer(block, place, 7)
            place += length
    return place != end


def _integer(block: bytes, place: int, bits: int) -> tuple[int, int]:
    """The integer that begins in the low `bits` of a byte, and the place behind it (5.1)."""
    limit = (1 << bits) - 1
    if place >= len(block):
        return 0, len(block) + 1
    value = block[place] & limit
    place += 1
    if value < limit:
        return value, place
    for shift in range(0, 35, 7):
        if place >= len(block):
            break
        octet = block[place]
        place += 1
        value += (octet & 0x7F) << shift
        if not octet & 0x80:
            return value, place
    return value, len(block) + 1


def literal(name: bytes, value: bytes) -> bytes:
    """A field that enters no table, its name and value as they are (6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    if len(text) < 0x7F:
        return bytes([len(text)]) + text
    rest, length = len(text) - 0x7F, bytearray([0x7F])
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes(length) + text
