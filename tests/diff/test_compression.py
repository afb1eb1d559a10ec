"""Decompression: whole streams in any pieces, and damage that is told."""

from __future__ import annotations

import gzip
import io
import itertools

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.diff.compression import PIECE_BYTES, Compression, compress, decompress, detect
from supervisor.diff.zstd_frames import FrameWalker
from supervisor.errors import SupervisorError

SKIPPABLE = b"\x5a\x2a\x4d\x18" + (300).to_bytes(4, "little") + bytes(300)
TEXT = b"some text " * 500


def unpacked(data: bytes) -> bytes:
    return b"".join(decompress(io.BytesIO(data), by_magic=True))


def streamed_frame(data: bytes) -> bytes:
    """A zstd frame that does not tell its size, with a checksum."""
    parts = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return parts.compress(data) + parts.flush()


def test_detection() -> None:
    assert detect(gzip.compress(b"")) is Compression.GZIP
    assert detect(zstandard.compress(b"")) is Compression.ZSTD
    assert detect(SKIPPABLE) is Compression.ZSTD
    assert detect(b"") is detect(b"\x1f\x8b") is detect(bytes(8)) is Compression.NONE


@pytest.mark.parametrize("encode", [gzip.compress, zstandard.compress, streamed_frame])
def test_several_members(encode: object) -> None:
    parts = [encode(data) for data in (TEXT, b"", b"x" * 3_000_000)]  # type: ignore[operator]
    assert unpacked(b"".join(parts)) == TEXT + b"x" * 3_000_000


def test_skippable_frames() -> None:
    data = SKIPPABLE + zstandard.compress(TEXT) + SKIPPABLE + streamed_frame(TEXT) + SKIPPABLE
    assert unpacked(data) == TEXT + TEXT
    assert unpacked(SKIPPABLE) == b""


@pytest.mark.parametrize("encode", [gzip.compress, zstandard.compress, streamed_frame])
def test_a_stream_cut_off_anywhere_is_an_error(encode: object) -> None:
    whole = encode(TEXT)  # type: ignore[operator]
    for length in range(8, len(whole)):
        with pytest.raises(SupervisorError):
            unpacked(whole + whole[:length])


@pytest.mark.parametrize("encode", [gzip.compress, streamed_frame])
@pytest.mark.parametrize("tail", [b"garbage that follows", bytes(512)])
def test_a_foreign_tail_is_an_error(encode: object, tail: bytes) -> None:
    with pytest.raises(SupervisorError, match="tail"):
        unpacked(encode(TEXT) + tail)  # type: ignore[operator]


def test_damage_is_an_error() -> None:
    for whole in (gzip.compress(TEXT), streamed_frame(TEXT)):
        damaged = bytearray(whole)
        damaged[-6 if whole[0] == 0x1F else -1] ^= 1
        with pytest.raises(SupervisorError, match="damaged"):
            unpacked(bytes(damaged))


@pytest.mark.parametrize("encode", [gzip.compress, zstandard.compress])
def test_a_bomb_comes_in_small_pieces(encode: object) -> None:
    bomb = encode(bytes(50_000_000))  # type: ignore[operator]
    sizes = [len(piece) for piece in decompress(io.BytesIO(bomb), by_magic=True)]
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= PIECE_BYTES


def test_without_magic_nothing_is_decompressed() -> None:
    data = gzip.compress(TEXT)
    assert b"".join(decompress(io.BytesIO(data), by_magic=False)) == data


@given(st.lists(st.binary(max_size=2000), max_size=5), st.lists(st.integers(1, 700), min_size=1, max_size=9))
def test_the_walker_takes_any_pieces(contents: list[bytes], lengths: list[int]) -> None:
    whole = b"".join(streamed_frame(data) + SKIPPABLE for data in contents)
    walker, place = FrameWalker(), 0
    for length in itertools.cycle(lengths):
        if place >= len(whole):
            break
        walker.feed(whole[place : place + length])
        place += length
    assert walker.at_boundary()


@given(st.binary(max_size=300))
def test_garbage_gives_our_error_or_is_taken_as_it_is(data: bytes) -> None:
    for start in (b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"):
        try:
            unpacked(start + data)
        except SupervisorError:
            assert start or detect(data) is not Compression.NONE


@pytest.mark.parametrize("kind", Compression)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(300, 70_000), min_size=1, max_size=9))
def test_how_the_input_was_cut_does_not_matter(kind: Compression, lengths: list[int]) -> None:
    data = b"".join(b"line %d\n" % number for number in range(20_000)) + bytes(PIECE_BYTES)
    pieces, place = [], 0
    for length in itertools.cycle(lengths):
        if place >= len(data):
            break
        pieces.append(data[place : place + length])
        place += length
    made = b"".join(compress(pieces, kind))
    assert made == b"".join(compress([data], kind))
    assert b"".join(decompress(io.BytesIO(made), by_magic=True)) == data
