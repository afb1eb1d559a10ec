"""The time index beside a rotated log: which moment begins at which byte (no counterpart in containerd).

`PATH.index` holds records of 16 bytes, two unsigned numbers in network order: nanoseconds since 1970
and an offset in PATH. Both rise. It tells no more than where to begin reading for a moment, and a log
without it, or with a record cut short, is read from an earlier place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from supervisor.model.instant import Nanoseconds

SUFFIX = ".index"

_RECORD = struct.Struct(">QQ")


def encode(at: Nanoseconds, offset: int) -> bytes:
    """One record."""
    return _RECORD.pack(at, offset)


def entries(index: bytes) -> Iterator[tuple[Nanoseconds, int]]:
    """Moments and offsets, as far as the records are whole."""
    whole = len(index) - len(index) % _RECORD.size
    for at, offset in _RECORD.iter_unpack(index[:whole]):
        yield Nanoseconds(at), offset


def offset_of(index: bytes, moment: Nanoseconds) -> int:
    """Where to begin, so that nothing written at or after `moment` is missed."""
    found = 0
    for at, offset in entries(index):
        if at > moment:
            break
        found = offset
    return found
