"""The 512-byte header block of tar: V7, ustar, star and GNU (POSIX pax, "ustar Interchange Format").

Pure: bytes in, values out. Read as Go's archive/tar does, since that is what images are made with.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from supervisor.diff.entry import Entry, Kind
from supervisor.errors import SupervisorError

BLOCK = 512
SECOND = 1_000_000_000
MAX_SIZE = (1 << 63) - 1

_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_CHECKSUM = slice(148, 156)
_GNU_TIMES = (slice(345, 357), slice(357, 369))

_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"S": Kind.FILE,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
    b"g": Kind.GLOBAL,
}
_WITHOUT_DATA = frozenset(
    (Kind.HARDLINK, Kind.SYMLINK, Kind.CHARACTER, Kind.BLOCK, Kind.DIRECTORY, Kind.FIFO)
)


@dataclass(slots=True)
class Header:
    """A header block: the entry it begins, its type letter, and how many bytes are stored behind it."""

    entry: Entry
    type: bytes
    stored: int

    def without_data(self) -> bool:
        """Whether this type has no data behind it, whatever its size field says."""
        return self.entry.kind in _WITHOUT_DATA


def text(raw: bytes) -> bytes:
    """A field up to its first NUL."""
    return raw.split(b"\0", 1)[0]


def number(raw: bytes) -> int:
    """A numeric field: octal digits, or GNU's base 256 when the highest bit is set."""
    if raw and raw[0] & 0x80:
        return _base256(raw)
    digits = text(raw.strip(b" \0"))
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise SupervisorError(f"tar: numeric field {raw[:16]!r} is not octal")
    return int(digits, 8)


def _base256(raw: bytes) -> int:
    value = int.from_bytes(raw, "big") & (1 << 8 * len(raw) - 1) - 1
    if raw[0] & 0x40:
        value -= 1 << 8 * len(raw) - 1
    if not -MAX_SIZE <= value <= MAX_SIZE:
        raise SupervisorError(f"tar: numeric field {raw[:16].hex()} does not fit in 64 bits")
    return value


def parse(block: bytes) -> Header:
    """Read a header block that is not all zeros; raises SupervisorError when it is none."""
    _check(block)
    (
        name, mode, uid, gid, size, mtime, _sum, letter, link,
        magic, _user, _group, major, minor, prefix, _pad,
    ) = _FIELDS.unpack(block)  # fmt: skip
    kind = _KINDS.get(letter, Kind.UNKNOWN)
    entry = Entry(
        kind=kind,
        name=text(name),
        link=text(link),
        mode=number(mode),
        uid=number(uid),
        gid=number(gid),
        size=number(size),
        mtime=number(mtime) * SECOND,
    )
    if magic == b"ustar\x0000":
        entry.name = _with_prefix(entry.name, _prefix(block, prefix))
    elif magic == b"ustar  \0":
        entry.atime = _gnu_time(block[_GNU_TIMES[0]])
    if kind in (Kind.CHARACTER, Kind.BLOCK):
        entry.major, entry.minor = number(major), number(minor)
    if letter == b"\0" and entry.name.endswith(b"/"):
        entry.kind = Kind.DIRECTORY  # V7 had no letter for directories
    return Header(entry, letter, entry.size)


def _prefix(block: bytes, prefix: bytes) -> bytes:
    """star keeps two times in the last part of the prefix, and says so at the end of the block."""
    return text(prefix[:131] if block[508:] == b"tar\0" else prefix)


def _with_prefix(name: bytes, prefix: bytes) -> bytes:
    return prefix + b"/" + name if prefix else name


def _gnu_time(raw: bytes) -> int:
    """Some writers leave other things in this field, so what is no number counts as absent."""
    try:
        return number(raw) * SECOND
    except SupervisorError:
        return 0


def _check(block: bytes) -> None:
    """Compare the checksum; old writers summed signed bytes."""
    told = number(block[_CHECKSUM])
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    if told != unsigned and told != unsigned - 256 * sum(byte > 127 for byte in rest):
        raise SupervisorError("tar: a header's checksum is wrong; this is no tar archive, or a damaged one")
