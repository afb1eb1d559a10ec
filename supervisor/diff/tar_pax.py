"""Extended headers of tar (POSIX pax Interchange Format): records `LENGTH KEY=VALUE` and what they change.

Pure. A record with an empty value takes the header's own value back. Unknown keys are ignored.
"""

from __future__ import annotations

import re

from supervisor.diff.tar_header import MAX_SIZE, SECOND, Header
from supervisor.errors import SupervisorError

Records = dict[str, bytes]

XATTR_PREFIX = "SCHILY.xattr."
SPARSE_MAP = "GNU.sparse.map"
_SPARSE_PAIR = ("GNU.sparse.offset", "GNU.sparse.numbytes")

_TIME = re.compile(rb"(-?)(\d{1,19})(?:\.(\d*))?")
_INTEGER = re.compile(rb"-?\d{1,19}")


def parse(data: bytes) -> Records:
    """The records of one extended header; raises SupervisorError when they are malformed.

    GNU's first sparse form repeats two keys; their values are gathered in order under `SPARSE_MAP`.
    """
    records: Records = {}
    pairs: list[bytes] = []
    place = 0
    while place < len(data):
        key, value, place = _record(data, place)
        if key in _SPARSE_PAIR:
            pairs.append(_pair_value(key, value, len(pairs)))
        else:
            records[key] = value
    if pairs:
        records[SPARSE_MAP] = b",".join(pairs)
    return records


def _record(data: bytes, place: int) -> tuple[str, bytes, int]:
    space = data.find(b" ", place, place + 20)
    digits = data[place:space] if space > 0 else b""
    end = place + (int(digits) if digits.isdigit() else 0)
    if not space + 1 < end <= len(data) or data[end - 1] != 0x0A:
        raise SupervisorError(f"tar: an extended header is malformed at byte {place}")
    key, equals, value = data[space + 1 : end - 1].partition(b"=")
    if not equals or not key or b"\0" in key:
        raise SupervisorError(f"tar: an extended header has a record without a key at byte {place}")
    return key.decode("utf-8", "surrogateescape"), value, end


def _pair_value(key: str, value: bytes, so_far: int) -> bytes:
    if key != _SPARSE_PAIR[so_far % 2] or b"," in value:
        raise SupervisorError("tar: the offsets and lengths of a sparse file are out of order")
    return value


def merge(header: Header, records: Records) -> None:
    """Change `header` as `records` say."""
    for key, value in records.items():
        if key.startswith(XATTR_PREFIX):
            header.entry.xattrs[key.removeprefix(XATTR_PREFIX)] = value
        elif value and key in _SETTERS:
            _SETTERS[key](header, value)


def integer(value: bytes, what: str) -> int:
    """A decimal number of 64 bits; raises SupervisorError naming `what`."""
    if not _INTEGER.fullmatch(value) or abs(found := int(value)) > MAX_SIZE:
        raise SupervisorError(f"tar: {what} is {value[:32]!r}, not a number of 64 bits")
    return int(value) if found else 0


def time(value: bytes, what: str) -> int:
    """Decimal seconds with a fraction, as nanoseconds; digits beyond those are cut off."""
    match = _TIME.fullmatch(value)
    if match is None or (seconds := int(match[2])) > MAX_SIZE:
        raise SupervisorError(f"tar: {what} is {value[:32]!r}, not a time in seconds")
    nanos = seconds * SECOND + int((match[3] or b"")[:9].ljust(9, b"0"))
    return -nanos if match[1] else nanos


def path(value: bytes, what: str) -> bytes:
    """A path, which holds no NUL."""
    if b"\0" in value:
        raise SupervisorError(f"tar: {what} in an extended header has a NUL byte")
    return value


def _set_size(header: Header, value: bytes) -> None:
    header.stored = header.entry.size = integer(value, "size")


def _set_name(header: Header, value: bytes) -> None:
    header.entry.name = path(value, "path")


def _set_link(header: Header, value: bytes) -> None:
    header.entry.link = path(value, "linkpath")


def _set_uid(header: Header, value: bytes) -> None:
    header.entry.uid = integer(value, "uid")


def _set_gid(header: Header, value: bytes) -> None:
    header.entry.gid = integer(value, "gid")


def _set_mtime(header: Header, value: bytes) -> None:
    header.entry.mtime = time(value, "mtime")


def _set_atime(header: Header, value: bytes) -> None:
    header.entry.atime = time(value, "atime")


_SETTERS = {
    "path": _set_name,
    "linkpath": _set_link,
    "size": _set_size,
    "uid": _set_uid,
    "gid": _set_gid,
    "mtime": _set_mtime,
    "atime": _set_atime,
}
