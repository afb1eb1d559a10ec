"""Header blocks: what clients send, read once and remembered, and what we answer (RFC 7541).

A client of gRPC sends the same headers with every call of a method, and after the first time most of
them as the same few bytes: references into a table that both sides keep. As long as that table does
not change, a block means what it meant before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from supervisor.http2.decoder import TABLE_SIZE, Decoder

T = TypeVar("T")
Fields = dict[bytes, bytes]

_REMEMBERED = 256
"""Blocks of a connection that are remembered."""

EMPTY_TABLE = bytes([TABLE_SIZE])
"""Says, in front of the first block of ours, that we keep no table, so that clients keep none of ours."""


class Blocks(Generic[T]):
    """Reads the blocks of one connection, in their order."""

    def __init__(self, read: Callable[[Fields], T]) -> None:
        """`read` makes of a block's fields what is wanted of them; of doubled fields it gets the first."""
        self._read = read
        self._decoder = Decoder()
        self._known: dict[bytes, T] = {}

    def decode(self, block: bytes) -> T:
        """What `read` made of the block's fields; raises Violation when it cannot be decoded."""
        known = self._known.get(block)
        if known is not None:
            return known
        before = self._decoder.changes
        fields: Fields = {}
        for name, value in self._decoder.decode(block):
            fields.setdefault(name, value)
        found = self._read(fields)
        changed = self._decoder.changes != before
        if changed or len(self._known) >= _REMEMBERED:
            self._known.clear()
        if not changed:
            self._known[block] = found
        return found


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
