"""Layers of every kind, for fuzzing: valid and hostile archives with single things changed in them.

Most of what is changed gets a right checksum again, so that it reaches what lies behind the first check.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard
from hypothesis import strategies as st

from supervisor.diff.tar_header import BLOCK
from tests.diff.hostile import UP, attacks
from tests.diff.layers import Member, archive, directory, link, member

DIALECTS = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)


class Blob(bytes):
    """A layer as it arrives; what is printed of it is short."""

    def __repr__(self) -> str:
        return f"Blob({len(self)} bytes, sha256 {hashlib.sha256(self).hexdigest()[:16]})"


Change = Callable[[bytearray], None]
"""Changes an archive where it stands."""

FIELDS = {
    "name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12),
    "mtime": (136, 12), "type": (156, 1), "link": (157, 100), "magic": (257, 8), "major": (329, 8),
    "minor": (337, 8), "prefix": (345, 155), "gnu atime": (345, 12), "sparse offset": (386, 12),
    "sparse length": (398, 12), "sparse next": (410, 24), "sparse extended": (482, 1),
    "sparse size": (483, 12), "star": (508, 4),
}  # fmt: skip
LETTERS = [bytes([letter]) for letter in b"\x0001234567AgxLKSDMNVX"]
NUMBERS = [
    b"", b"0", b"7", b"1000", b"0000644", b"77777777777", b"00000000001 ", b" 12\0", b"8", b"-1", b"+1",
    b"1_0", b"\x80" + bytes(10) + b"\x01", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\xff" * 8, b"\x80" * 8,
    b"\xc0" + bytes(11), b"\0", b" ",
]  # fmt: skip
NAMES = [
    b"a", b"a/b", b"../a", b"/a", b".", b"..", b"", b"/", b"l", b"l/x", b"canary/file", b".wh.a",
    b".wh..wh..opq",
    b".wh.", b".wh..", b"a/.wh.b", b"\xff\xfe", b"d/", b"x" * 100, b"a\0b", b"\n", b"a//b/./c",
]  # fmt: skip
GOOD_NAMES = [
    "a", "a/b", "a/b/c", "d", "d/f", "l", "l/x", "/a", "../d", "./a", ".wh.a", "d/.wh.f", "a/.wh..wh..opq",
]  # fmt: skip
"""Few, so that one entry meets another."""

MAGICS = [b"ustar\x0000", b"ustar  \0", b"ustar\x00\0\0", bytes(8), b"tar\0"]
PAX_KEYS = [
    "path", "linkpath", "size", "uid", "gid", "mtime", "atime", "ctime", "uname", "comment",
    "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.major", "GNU.sparse.minor",
    "GNU.sparse.name", "GNU.sparse.numblocks", "GNU.sparse.offset", "GNU.sparse.numbytes",
    "SCHILY.xattr.user.a", "SCHILY.xattr.security.capability", "SCHILY.xattr.trusted.overlay.opaque",
    "SCHILY.xattr.user.overlay.opaque", "SCHILY.xattr.", "SCHILY.xattr.nonsense", "hdrcharset",
]  # fmt: skip
PAX_VALUES = [
    b"", b"0", b"1", b"5", b"-1", b"1.5", b"-0.000000001", b"9223372036854775807", b"9223372036854775808",
    b"0,1", b"0,0", b"1,2,3", b"4,1,2,1", b"0,9223372036854775807", b"y", b"BINARY", b" 1", b"1e3",
    b"\x01\0\0\x02\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0", b"99999999999999999999999999", b"1" * 5000, *NAMES,
]  # fmt: skip

SMALL = st.integers(0, 1 << 16)
"""A place, taken modulo what there is."""


def _valid(root: str) -> list[list[Member]]:
    """Archives as they should be, of all that a layer may hold."""
    fifo = member("d/fifo", kind=tarfile.FIFOTYPE)
    sparse = {"GNU.sparse.map": "0,3,1000,2", "GNU.sparse.size": "2000"}
    first = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    return [
        [directory("d"), member("d/f", b"text"), link("d/l", "f"), link("d/h", "d/f", tarfile.LNKTYPE)],
        [directory("d", mode=0o1777), fifo, member("d/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)],
        [member("d/f", b"x" * 2000), member("d/.wh.g"), directory("e"), member("e/.wh..wh..opq")],
        [member("d" * 99 + "/" + "f" * 99, b"long"), link("l" * 150, "t" * 150)],
        [member("s", b"abcde", pax_headers=sparse), member("t", b"x")],
        [member("s", b"1\n2\n3\n".ljust(BLOCK, b"\0") + b"xyz", pax_headers=first)],
        [member("x", b"1", pax_headers={"SCHILY.xattr.user.a": "v", "mtime": "5.25", "path": "y"})],
        [member("a", b"1"), member("a", b"22"), directory("a"), member("a/b"), link("a", "b")],
        [member("a/new"), member("a/.wh.b"), member("other/f")],
        [link("l", f"{UP}{root}"), member("l/f", b"x")],
    ]


def seeds(root: str) -> list[bytes]:
    """All archives that others are made of, as they are."""
    return [archive(*members) for members in (*_valid(root), *attacks(Path(root) / "canary").values())]


def _members(root: str) -> st.SearchStrategy[list[Member]]:
    known = [*_valid(root), *attacks(Path(root) / "canary").values()]
    names = st.sampled_from(GOOD_NAMES)
    kinds = st.sampled_from([b"0", b"0", b"0", b"5", b"5", b"1", b"2", b"6", b"3"])
    targets = names | names.map(lambda name: f"{root}/{name}")
    made = st.builds(
        lambda name, kind, target, data, mode: (
            link(name, target, kind)
            if kind in (b"1", b"2")
            else member(name, data if kind == b"0" else b"", kind, mode=mode)
        ),
        names,
        kinds,
        targets,
        st.binary(max_size=40),
        st.integers(0, 0o7777),
    )
    lists = st.sampled_from(known) | st.lists(made, max_size=6)
    return st.lists(lists, min_size=1, max_size=3).map(lambda parts: [one for part in parts for one in part])


def _packed(members: Sequence[Member], dialect: int, *, ended: bool) -> bytes:
    try:
        return archive(*members, dialect=dialect, ended=ended)
    except (ValueError, OverflowError):  # what only extended headers can say
        return archive(*members, ended=ended)


def headers(data: bytes | bytearray) -> list[int]:
    """Where header blocks seem to be."""
    return [place for place in range(0, len(data), BLOCK) if data[place + 257 : place + 262] == b"ustar"]


def sign(data: bytearray, place: int) -> None:
    """Give the header at `place` the checksum that it should have."""
    if len(data) < place + BLOCK:
        return
    data[place + 148 : place + 156] = b" " * 8
    data[place + 148 : place + 156] = b"%06o\0 " % sum(data[place : place + BLOCK])


@dataclass(frozen=True, slots=True)
class Overwrite:
    """A field of a header gets another value, and the header its checksum."""

    which: int
    field: str
    value: bytes
    signed: bool

    def __call__(self, data: bytearray) -> None:
        places = headers(data)
        if not places:
            return
        place, (start, size) = places[self.which % len(places)], FIELDS[self.field]
        data[place + start : place + start + size] = self.value[:size].ljust(size, b"\0")
        if self.signed:
            sign(data, place)


@dataclass(frozen=True, slots=True)
class Special:
    """An extended header, or one for a long name, before another header."""

    which: int
    letter: bytes
    body: bytes

    def __call__(self, data: bytearray) -> None:
        info = tarfile.TarInfo("special")
        info.type, info.size = self.letter, len(self.body)
        places = [*headers(data), len(data)]
        place = places[self.which % len(places)]
        padding = bytes(-len(self.body) % BLOCK)
        data[place:place] = info.tobuf(tarfile.GNU_FORMAT) + self.body + padding


@dataclass(frozen=True, slots=True)
class Flip:
    """A byte changes; if it is one of a header, that may get its checksum."""

    place: int
    value: int
    signed: bool = False

    def __call__(self, data: bytearray) -> None:
        if not data:
            return
        place = self.place % len(data)
        data[place] ^= self.value
        if self.signed and (header := place // BLOCK * BLOCK) in headers(data):
            sign(data, header)


@dataclass(frozen=True, slots=True)
class Cut:
    """The end is missing."""

    place: int

    def __call__(self, data: bytearray) -> None:
        del data[self.place % (len(data) + 1) :]


@dataclass(frozen=True, slots=True)
class Move:
    """Blocks are taken out at one place and put in at another; or stay there, too; or are zeros."""

    source: int
    count: int
    to: int
    kind: str

    def __call__(self, data: bytearray) -> None:
        blocks = len(data) // BLOCK + 1
        source, to = self.source % blocks * BLOCK, self.to % blocks * BLOCK
        taken = data[source : source + self.count * BLOCK]
        if self.kind == "move":
            del data[source : source + self.count * BLOCK]
        data[to:to] = bytes(len(taken)) if self.kind == "zeros" else taken


def _record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length += len(str(length)) - len(str(len(body)))
    return str(length).encode() + body


def _bodies() -> st.SearchStrategy[bytes]:
    records = st.builds(_record, st.sampled_from(PAX_KEYS), st.sampled_from(PAX_VALUES))
    return (
        st.lists(records, min_size=1, max_size=4).map(b"".join)
        | st.sampled_from(NAMES)
        | st.binary(max_size=40)
    )


def _overwrites() -> st.SearchStrategy[Change]:
    by_field = dict.fromkeys(FIELDS, NUMBERS) | {
        "name": NAMES, "link": NAMES, "prefix": NAMES, "type": LETTERS, "magic": MAGICS, "star": MAGICS,
        "sparse extended": [b"\x01", b"\0"],
    }  # fmt: skip
    return st.sampled_from(list(FIELDS)).flatmap(
        lambda name: st.builds(
            Overwrite,
            SMALL,
            st.just(name),
            st.sampled_from(by_field[name]) | st.binary(max_size=12),
            st.sampled_from([True] * 7 + [False]),
        )
    )


def _damages() -> st.SearchStrategy[Change]:
    return st.builds(Flip, SMALL, st.integers(1, 255)) | st.builds(Cut, SMALL)


def _changes() -> st.SearchStrategy[Change]:
    moves = st.builds(Move, SMALL, st.integers(1, 4), SMALL, st.sampled_from(["move", "copy", "zeros"]))
    specials = st.builds(Special, SMALL, st.sampled_from([b"x", b"x", b"g", b"L", b"K"]), _bodies())
    flips = st.builds(Flip, SMALL, st.integers(1, 255), st.just(True))
    return st.one_of(_overwrites(), specials, _overwrites(), flips, specials, flips, moves, _damages())


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 1),
    "gzip members": lambda data: gzip.compress(data[:700], 1) + gzip.compress(data[700:], 1),
    "zstd": _zstd,
    "zstd frames": lambda data: _zstd(data[:700]) + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + _zstd(data[700:]),
}


@st.composite
def blobs(draw: st.DrawFn, root: str) -> Blob:
    """Layers as they arrive: `root` is the host's folder that the hostile ones are after."""
    members = draw(_members(root))
    tar = bytearray(_packed(members, draw(st.sampled_from(DIALECTS)), ended=draw(st.booleans())))
    for change in draw(st.lists(_changes(), max_size=4)):
        change(tar)
    packer = draw(st.sampled_from(["plain", "plain", *PACKERS]))
    blob = bytearray(PACKERS[packer](bytes(tar)))
    if packer != "plain" and draw(st.sampled_from([False] * 5 + [True])):
        draw(_damages())(blob)
    return Blob(blob)
