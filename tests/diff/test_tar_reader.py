"""The tar reader against Python's tarfile, and against bytes that are no tar."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.diff import tar_header, tar_pax
from supervisor.diff.entry import Entry, Kind
from supervisor.diff.tar_reader import MAX_SPECIAL_BYTES, TarReader
from supervisor.errors import SupervisorError
from tests.diff.layers import archive, directory, link, member

DIALECTS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def read(data: bytes) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(data))
    return [(entry, b"".join(piece for _, piece in reader.data())) for entry in reader]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_kinds(dialect: int) -> None:
    made = [
        member("file", b"text", uid=5, gid=6, mode=0o4711),
        directory("dir"),
        link("soft", "file"),
        link("hard", "file", tarfile.LNKTYPE),
        member("fifo", kind=tarfile.FIFOTYPE),
        member("char", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("block", kind=tarfile.BLKTYPE, devmajor=7, devminor=9),
        member("odd", kind=b"Z"),
    ]
    found = read(archive(*made, dialect=dialect))
    assert [entry.kind for entry, _ in found] == [
        Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.HARDLINK,
        Kind.FIFO, Kind.CHARACTER, Kind.BLOCK, Kind.UNKNOWN,
    ]  # fmt: skip
    file, data = found[0]
    assert (file.name, data, file.uid, file.gid, file.mode, file.mtime) == (
        b"file",
        b"text",
        5,
        6,
        0o4711,
        10**12,
    )
    assert (found[2][0].link, found[3][0].link) == (b"file", b"file")
    assert (found[5][0].major, found[5][0].minor) == (1, 3)


NAMES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1), min_size=1).map(
    "/".join
)


@given(
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.lists(
        st.tuples(NAMES, st.binary(max_size=2000), st.integers(0, 2**40), st.integers(0, 2**33)),
        max_size=6,
        unique_by=lambda made: made[0],
    ),
    st.booleans(),
)
def test_files_of_any_name_and_size(
    dialect: int, files: list[tuple[str, bytes, int, int]], ended: bool
) -> None:
    members = [member(name, data, uid=uid, mtime=mtime) for name, data, uid, mtime in files]
    found = read(archive(*members, dialect=dialect, ended=ended))
    assert [(e.name, d, e.uid, e.mtime) for e, d in found] == [
        (name.encode(), data, uid, mtime * 10**9) for name, data, uid, mtime in files
    ]


@given(st.binary(max_size=5000))
def test_garbage_gives_our_error(data: bytes) -> None:
    with contextlib.suppress(SupervisorError):
        read(data)


@given(st.data())
def test_a_damaged_archive_gives_our_error(data: st.DataObject) -> None:
    headers = {"path": "p" * 200, "mtime": "1.5", "SCHILY.xattr.user.a": "b", "GNU.sparse.map": "0,2,3,1"}
    whole = archive(
        member("a", b"text"), member("b" * 150, b"x" * 600, pax_headers=headers), link("l", "m" * 300)
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole = whole[:place] + data.draw(st.binary(min_size=1, max_size=4)) + whole[place + 1 :]
        if place % 3 == 0 and place < len(whole) - 512:
            block = place // 512 * 512  # with a right checksum, so that more than that is tested
            fields = whole[block : block + 512]
            sum_ = sum(fields[:148] + b" " * 8 + fields[156:512])
            whole = whole[: block + 148] + b"%06o\0 " % sum_ + whole[block + 156 :]
    with contextlib.suppress(SupervisorError):
        read(whole)


def test_an_archive_may_end_early_only_in_padding() -> None:
    whole = archive(member("a", b"x" * 700))
    for length in (512 + 700, 512 + 800, 512 + 1024, 512 + 1024 + 512):
        assert len(read(whole[:length])) == 1
    for length in (100, 512 + 300, 512 + 699):
        with pytest.raises(SupervisorError, match="cut off"):
            read(whole[:length])
    with pytest.raises(SupervisorError, match="between an extended header"):
        read(archive(member("n" * 300))[:1024])
    with pytest.raises(SupervisorError, match="zeros"):
        read(bytes(512) + whole)


def test_extended_headers_win_over_the_block() -> None:
    headers = {"path": "long/" * 30 + "name", "uid": "99", "mtime": "-1.25", "size": "3"}
    (entry, data), *_ = read(archive(member("short", b"abc", pax_headers=headers)))
    assert (entry.name, entry.uid, entry.mtime, data) == (
        headers["path"].encode(),
        99,
        -1_250_000_000,
        b"abc",
    )


def test_a_global_header_is_an_entry_of_its_own() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "x"}) as tar:
        tar.addfile(*[tarfile.TarInfo("f")])
    assert [entry.kind for entry, _ in read(buffer.getvalue())] == [Kind.GLOBAL, Kind.FILE]


def patched(**fields: bytes) -> bytes:
    """A header block with other bytes in a field, and a right checksum."""
    places = {
        "name": 0,
        "uid": 108,
        "size": 124,
        "mtime": 136,
        "type": 156,
        "magic": 257,
        "prefix": 345,
        "end": 508,
    }
    block = bytearray(archive(member("f"))[:512])
    for name, value in fields.items():
        block[places[name] : places[name] + len(value)] = value
    block[148:156] = b"%06o\0 " % sum(block[:148] + b" " * 8 + block[156:])
    return bytes(block)


def test_numbers() -> None:
    assert tar_header.number(b"0000644\0") == tar_header.number(b"   644 \0") == 0o644
    assert tar_header.number(bytes(8)) == 0
    assert tar_header.number(b"\x80" + (2**40).to_bytes(11, "big")) == 2**40
    assert tar_header.number(b"\xff" * 12) == -1
    for bad in (b"8\0", b"-1\0", b"0x1", b"\x80" + b"\xff" * 11, b"1 2"):
        with pytest.raises(SupervisorError):
            tar_header.number(bad)


@pytest.mark.parametrize("size", [b"\xff" * 12, b"77777777777\0"])
@pytest.mark.parametrize("kind", [b"x", b"L", b"K", b"0", b"S"])
def test_sizes_that_are_claimed_only(size: bytes, kind: bytes) -> None:
    with pytest.raises(SupervisorError):
        read(patched(size=size, type=kind) + bytes(2000))


def test_special_headers_are_bounded() -> None:
    with pytest.raises(SupervisorError, match=str(MAX_SPECIAL_BYTES)):
        read(archive(member("n" * (MAX_SPECIAL_BYTES + 1), b"")))


def test_old_dialects() -> None:
    (v7, _), *_ = read(patched(magic=bytes(8), type=b"\0", name=b"dir/\0"))
    assert (v7.kind, v7.name) == (Kind.DIRECTORY, b"dir/")
    (star, _), *_ = read(patched(prefix=b"pre\0", end=b"tar\0"))
    assert star.name == b"pre/f"
    (gnu, _), *_ = read(patched(magic=b"ustar  \0", prefix=b"00000000144\0"))
    assert (gnu.name, gnu.atime) == (b"f", 100 * 10**9)


def test_a_header_less_type_has_no_data_whatever_its_size_says() -> None:
    made = patched(type=b"2", size=b"00000001000\0") + archive(member("next"))
    assert [entry.name for entry, _ in read(made)] == [b"f", b"next"]


@pytest.mark.parametrize(
    "records",
    [
        b"",
        b"9 a=b\n",
        b"6 a=b",
        b"x a=b\n",
        b"5 ab\n",
        b"99999999999999999999 a=b\n",
        b"5 =b\n",
        b"\xb2 a=b\n",
    ],
)
def test_malformed_records(records: bytes) -> None:
    if records:
        with pytest.raises(SupervisorError, match="extended header"):
            tar_pax.parse(records)
    else:
        assert tar_pax.parse(records) == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "-1"}, {"size": "1e3"}, {"size": "9" * 19},
        {"uid": "x"}, {"mtime": "1.x"}, {"mtime": "9" * 30},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
        {"GNU.sparse.map": "0,1,0,1", "GNU.sparse.size": "9"},
        {"GNU.sparse.map": "0,100", "GNU.sparse.size": "9"},
        {"GNU.sparse.map": "0", "GNU.sparse.size": "9"},
        {"GNU.sparse.map": "0,5", "GNU.sparse.size": "9"},
    ],
)  # fmt: skip
def test_records_that_cannot_be(headers: dict[str, str]) -> None:
    with pytest.raises(SupervisorError):
        read(archive(member("f", b"abc", pax_headers=headers)))


@pytest.mark.parametrize("text", [b"x\n", b"9" * 30 + b"\n", b"-1\n0\n", b"1\n0\n", b"99999999\n"])
def test_maps_that_cannot_be(text: bytes) -> None:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"}
    with pytest.raises(SupervisorError):
        read(archive(member("f", text.ljust(512, b"\0"), pax_headers=headers)))
