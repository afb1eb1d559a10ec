"""Sparse files in tar: GNU's old header form and its PAX forms 0.0, 0.1 and 1.0 (GNU tar manual). Pure.

A map lists the stretches of the file that are stored, in order; the rest of the file is zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.diff import tar_pax
from supervisor.diff.tar_header import MAX_SIZE, number
from supervisor.errors import SupervisorError

# A mebibyte of map describes a file of some fifty thousand stretches; Go's reader stops there, too.
MAX_MAP_BYTES = 1 << 20

_OLD_ENTRIES, _OLD_EXTENDED, _OLD_REAL_SIZE = 386, 482, slice(483, 495)
_EXTENSION_EXTENDED = 504


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes of a file that are stored."""

    offset: int
    length: int


def checked(stretches: list[Stretch], real_size: int, stored: int) -> list[Stretch]:
    """Return `stretches` if they are in order, inside the file, and stored in full."""
    end = 0
    for stretch in stretches:
        if stretch.offset < end or stretch.length < 0 or stretch.offset + stretch.length > real_size:
            raise SupervisorError("tar: the map of a sparse file is out of order or reaches beyond its end")
        end = stretch.offset + stretch.length
    if sum(stretch.length for stretch in stretches) > stored or not 0 <= real_size <= MAX_SIZE:
        raise SupervisorError("tar: a sparse file's map tells of more bytes than are stored")
    return stretches


def old_header(block: bytes) -> tuple[list[Stretch], int, bool]:
    """Of an old GNU header: its stretches, the real size, and whether a block of further ones follows."""
    stretches = _old_entries(block, _OLD_ENTRIES, 4)
    return stretches, number(block[_OLD_REAL_SIZE]), bool(block[_OLD_EXTENDED])


def old_extension(block: bytes) -> tuple[list[Stretch], bool]:
    """Of an extension block: its stretches, and whether another one follows."""
    return _old_entries(block, 0, 21), bool(block[_EXTENSION_EXTENDED])


def _old_entries(block: bytes, start: int, count: int) -> list[Stretch]:
    found: list[Stretch] = []
    for place in range(start, start + 24 * count, 24):
        offset, length = block[place : place + 12], block[place + 12 : place + 24]
        if not offset.strip(b"\0"):
            break
        found.append(Stretch(number(offset), number(length)))
    return found


def is_form_1_0(records: tar_pax.Records) -> bool:
    """Whether the map lies before the data."""
    return records.get("GNU.sparse.major") == b"1" and records.get("GNU.sparse.minor") == b"0"


def form_0(records: tar_pax.Records) -> list[Stretch] | None:
    """The map of the forms 0.0 and 0.1, which lies in the records; None when there is none."""
    text = records.get(tar_pax.SPARSE_MAP)
    return None if text is None else _pairs([tar_pax.integer(n, "sparse map") for n in text.split(b",")])


def real_size(records: tar_pax.Records) -> int:
    """The size of the finished file."""
    told = records.get("GNU.sparse.realsize") or records.get("GNU.sparse.size") or b""
    return tar_pax.integer(told, "GNU.sparse.realsize")


def name(records: tar_pax.Records) -> bytes:
    """The file's own name; the header's is one made up for readers that know no sparse files."""
    return tar_pax.path(records.get("GNU.sparse.name", b""), "GNU.sparse.name")


class MapReader:
    """Collects the map of form 1.0 from the blocks before the data: a count, then pairs, one per line."""

    def __init__(self) -> None:
        self._text = b""

    def feed(self, block: bytes) -> list[Stretch] | None:
        """Take a block; the map when it is complete, None while it is not."""
        self._text += block
        if len(self._text) > MAX_MAP_BYTES:
            raise SupervisorError(f"tar: the map of a sparse file is longer than {MAX_MAP_BYTES} bytes")
        count, newline, rest = self._text.partition(b"\n")
        if not newline:
            return None
        wanted = 2 * tar_pax.integer(count, "sparse map length")
        if not 0 <= wanted <= MAX_MAP_BYTES:
            raise SupervisorError(f"tar: a sparse file claims {wanted // 2} stretches")
        if rest.count(b"\n") < wanted:
            return None
        lines = rest.split(b"\n", wanted)[:wanted]
        return _pairs([tar_pax.integer(line, "sparse map") for line in lines])


def _pairs(numbers: list[int]) -> list[Stretch]:
    if len(numbers) % 2:
        raise SupervisorError("tar: the map of a sparse file has an offset without a length")
    return [Stretch(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
