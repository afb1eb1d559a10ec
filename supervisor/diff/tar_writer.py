"""Tar headers written (POSIX pax: ustar, with an extended header for what does not fit). Pure.

The same entry always gives the same bytes, so that the same difference gives the same layer.
"""

from __future__ import annotations

from supervisor.diff.entry import Entry, Kind
from supervisor.diff.tar_header import BLOCK, SECOND

END = bytes(2 * BLOCK)

_LETTERS = {
    Kind.FILE: b"0",
    Kind.HARDLINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHARACTER: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
_LARGEST_ID = 0o7777777
_LARGEST = 0o77777777777
_NAME_BYTES = 100
_PREFIX_BYTES = 155


def header(entry: Entry) -> bytes:
    """The blocks before an entry's data."""
    records = _records(entry)
    if not records:
        return _block(entry, _LETTERS[entry.kind])
    body = b"".join(_record(key, value) for key, value in sorted(records.items()))
    base = entry.name.rstrip(b"/").rpartition(b"/")[2]
    special = Entry(Kind.FILE, b"PaxHeaders.0/" + base[: _NAME_BYTES - 13], size=len(body))
    return _block(special, b"x") + body + padding(len(body)) + _block(entry, _LETTERS[entry.kind])


def padding(size: int) -> bytes:
    """What follows `size` bytes of data up to the end of the block."""
    return bytes(-size % BLOCK)


def _records(entry: Entry) -> dict[bytes, bytes]:
    """What the block has no room for."""
    records = {b"SCHILY.xattr." + key.encode(): value for key, value in entry.xattrs.items()}
    if not entry.name.isascii() or split(entry.name) is None:
        records[b"path"] = entry.name
    if not entry.link.isascii() or len(entry.link) > _NAME_BYTES:
        records[b"linkpath"] = entry.link
    for key, number, largest in (
        (b"size", entry.size, _LARGEST),
        (b"uid", entry.uid, _LARGEST_ID),
        (b"gid", entry.gid, _LARGEST_ID),
        (b"mtime", entry.mtime // SECOND, _LARGEST),
    ):
        if not 0 <= number <= largest:
            records[key] = b"%d" % number
    return records


def split(name: bytes) -> tuple[bytes, bytes] | None:
    """The name as prefix and rest, which the block has room for; None when there is no such way."""
    if len(name) <= _NAME_BYTES:
        return b"", name
    # The slash between the two is not stored, and one at the end must stay with the rest.
    slash = name.rfind(b"/", 0, min(_PREFIX_BYTES + 1, len(name) - 1))
    rest = name[slash + 1 :]
    return (name[:slash], rest) if slash > 0 and len(rest) <= _NAME_BYTES else None


def _record(key: bytes, value: bytes) -> bytes:
    """LENGTH KEY=VALUE, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(entry: Entry, letter: bytes) -> bytes:
    prefix, name = split(entry.name) or (b"", entry.name)
    fields = (
        _text(name, _NAME_BYTES),
        _number(entry.mode, 8),
        _number(entry.uid, 8),
        _number(entry.gid, 8),
        _number(entry.size, 12),
        _number(entry.mtime // SECOND, 12),
        b" " * 8,
        letter,
        _text(entry.link, _NAME_BYTES),
        b"ustar\x0000",
        bytes(64),
        _number(entry.major, 8),
        _number(entry.minor, 8),
        _text(prefix, _PREFIX_BYTES),
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _text(value: bytes, size: int) -> bytes:
    return value[:size].ljust(size, b"\0")


def _number(value: int, size: int) -> bytes:
    """Octal digits; what does not fit stands in the extended header, and 0 here."""
    fits = 0 <= value < 8 ** (size - 1)
    return b"%0*o\0" % (size - 1, value if fits else 0)
