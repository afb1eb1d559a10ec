"""Frames: contract tasks 1.1."""

from __future__ import annotations

import itertools
import struct

from hypothesis import given
from hypothesis import strategies as st

from supervisor.ttrpc.wire import MAX_PAYLOAD, REQUEST, Decoder, Frame, Oversized, encode

frames = st.builds(
    Frame,
    stream=st.integers(0, 2**32 - 1),
    type=st.integers(0, 255),
    flags=st.integers(0, 255),
    payload=st.binary(max_size=200),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_cutting_gives_the_same_frames(sent: list[Frame], places: list[int]) -> None:
    decoder = Decoder()
    received = [frame for piece in cut(b"".join(map(encode, sent)), places) for frame in decoder.feed(piece)]
    assert received == sent


def test_header_is_big_endian() -> None:
    assert encode(Frame(3, REQUEST, 0x01, b"ab")) == bytes.fromhex("00000002 00000003 01 01") + b"ab"


def test_largest_payload_passes() -> None:
    frame = Frame(1, REQUEST, 0, bytes(MAX_PAYLOAD))
    assert Decoder().feed(encode(frame)) == [frame]


@given(st.lists(st.integers(0, MAX_PAYLOAD + 100), max_size=5))
def test_oversized_is_told_once_and_read_past(places: list[int]) -> None:
    after = Frame(3, REQUEST, 0, b"next")
    data = struct.pack(">IIBB", MAX_PAYLOAD + 1, 1, REQUEST, 0) + bytes(MAX_PAYLOAD + 1) + encode(after)
    decoder = Decoder()
    received = [frame for piece in cut(data, places) for frame in decoder.feed(piece)]
    assert received == [Oversized(1, REQUEST, MAX_PAYLOAD + 1), after]


@given(st.binary(max_size=300))
def test_garbage_never_raises(data: bytes) -> None:
    for frame in Decoder().feed(data):
        assert isinstance(frame, Frame | Oversized)
