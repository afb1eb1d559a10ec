"""HPACK as it is read (RFC 7541): the table that a client fills, and blocks that refer to it.

Nearly all of a block are references. What takes long is Huffman's code, so what its strings stand for is
remembered, by all connections: that depends on nothing but the string. Blocks and tables themselves differ
between connections even of one client: ids of leases are entries too, and some clients shuffle their fields.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache

import hpack

from supervisor.http2.frames import Code, Violation

Field = tuple[bytes, bytes]
"""Name and value."""

MAX_LIST_BYTES = 65_536
"""Names and values of one block at most, with 32 bytes for each; for SETTINGS_MAX_HEADER_LIST_SIZE."""

MAX_TABLE_BYTES = 4096
"""Of a client's table (RFC 9113, 6.5.2: SETTINGS_HEADER_TABLE_SIZE), which we do not change."""

INDEXED = 0x80
LITERAL_INDEXED = 0x40
TABLE_SIZE = 0x20
"""The bits that tell the kinds of fields from each other (6); without them a literal enters no table."""

_HUFFMAN = 0x80
_ENTRY_BYTES = 32
_REMEMBERED = 1024
_REMEMBERED_BYTES = 256
"""Strings that are remembered, and how long they are at most."""


def _library(block: bytes) -> Field:
    """The one field of a block that refers to no client's table."""
    try:
        ((name, value),) = hpack.Decoder(max_header_list_size=MAX_LIST_BYTES).decode(block, raw=True)
    except hpack.HPACKError as error:
        raise _broken(str(error) or type(error).__name__) from error
    return _octets(name), _octets(value)


def _octets(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _broken(text: str) -> Violation:
    return Violation(Code.COMPRESSION_ERROR, text)


_STATIC = tuple(_library(bytes([INDEXED | index])) for index in range(1, 62))
"""The table that everybody has (Appendix A)."""


class Decoder:
    """Reads the blocks of one connection, in their order; of no use any more once it has raised."""

    def __init__(self) -> None:
        self.changes = 0
        """Grows when the table changes: until then a block means what it meant before."""
        self._table: deque[Field] = deque()  # the newest first (2.3.2)
        self._bytes = 0
        self._limit = MAX_TABLE_BYTES

    def decode(self, block: bytes) -> Iterator[Field]:
        """The fields of a block in their order; raises Violation when it is malformed or too large."""
        place, room, begun = 0, MAX_LIST_BYTES, False
        while place < len(block):
            kind = block[place]
            if kind & INDEXED:  # 6.1
                index, place = _integer(block, place, 7)
                field = self._entry(index)
            elif kind & LITERAL_INDEXED:  # 6.2.1
                field, place = self._literal(block, place, 6)
                self._add(field)
            elif kind & TABLE_SIZE:  # 6.3
                limit, place = _integer(block, place, 5)
                self._resize(limit, begun)
                continue
            else:  # 6.2.2 and 6.2.3
                field, place = self._literal(block, place, 4)
            begun = True
            room -= _size(field)
            if room < 0:
                raise _broken(f"headers of more than {MAX_LIST_BYTES} bytes")
            yield field

    def _entry(self, index: int) -> Field:
        """What an index stands for (2.3.3)."""
        try:
            if index > len(_STATIC):
                return self._table[index - len(_STATIC) - 1]
            if index:
                return _STATIC[index - 1]
        except IndexError:
            pass
        raise _broken(f"there is no entry {index} in the table")

    def _literal(self, block: bytes, place: int, bits: int) -> tuple[Field, int]:
        """The field that begins with the index of its name, and the place behind it."""
        index, place = _integer(block, place, bits)
        if index:
            name = self._entry(index)[0]
        else:
            name, place = _string(block, place)
        value, place = _string(block, place)
        return (name, value), place

    def _add(self, field: Field) -> None:
        """Enter a field; one that is larger than the table empties it (4.4)."""
        self.changes += 1
        self._table.appendleft(field)
        self._bytes += _size(field)
        self._evict()

    def _resize(self, limit: int, begun: bool) -> None:
        """Change what the table may hold, in front of a block's fields (4.2)."""
        if begun or limit > MAX_TABLE_BYTES:
            raise _broken(f"the table's size becomes {limit}, behind a field or beyond {MAX_TABLE_BYTES}")
        self.changes += 1
        self._limit = limit
        self._evict()

    def _evict(self) -> None:
        while self._bytes > self._limit:
            self._bytes -= _size(self._table.pop())


def _size(field: Field) -> int:
    """What a field counts for (4.1)."""
    return len(field[0]) + len(field[1]) + _ENTRY_BYTES


def _integer(block: bytes, place: int, bits: int) -> tuple[int, int]:
    """The integer that begins in the low `bits` of a byte, and the place behind it (5.1)."""
    limit = (1 << bits) - 1
    try:
        value = block[place] & limit
        place += 1
        if value < limit:
            return value, place
        for shift in range(0, 35, 7):
            octet = block[place]
            place += 1
            value += (octet & 0x7F) << shift
            if not octet & 0x80:
                return value, place
    except IndexError:
        raise _broken("a block of headers ends within an integer") from None
    raise _broken("an integer in a block of headers is too long")


def _string(block: bytes, place: int) -> tuple[bytes, int]:
    """The string that begins here, and the place behind it (5.2)."""
    length, start = _integer(block, place, 7)
    end = start + length
    if end > len(block):
        raise _broken("a block of headers ends within a string")
    if not block[place] & _HUFFMAN:
        return block[start:end], end
    unpack = _unpacked if length <= _REMEMBERED_BYTES else _unpacked.__wrapped__
    return unpack(block[place:end]), end


@lru_cache(_REMEMBERED)
def _unpacked(string: bytes) -> bytes:
    """What a string of Huffman's code stands for, which begins with its length."""
    return _library(b"\x00\x00" + string)[1]
