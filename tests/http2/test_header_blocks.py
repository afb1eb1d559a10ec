"""Blocks of headers: what is remembered means what it would mean if it were read again."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.http2.frames import Violation
from supervisor.http2.header_blocks import Blocks, Fields, literal

NAMES = st.sampled_from([b":path", b"te", b"grpc-timeout", b"containerd-namespace", b"x" * 200])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=300), st.booleans()), max_size=6)


def kept(fields: Fields) -> Fields:
    return fields


@given(st.lists(st.tuples(FIELDS, st.integers(1, 3)), max_size=8), st.integers(0, 4096))
def test_blocks_are_read_as_hpack_reads_them(said: list[tuple[list, int]], table: int) -> None:
    """Repeated, sensitive (never indexed), and with a table that clients resize."""
    encoder, blocks = hpack.Encoder(), Blocks(kept)
    encoder.header_table_size = table
    for fields, times in said:
        for _ in range(times):
            block = encoder.encode(
                [hpack.HeaderTuple(n, v) if i else hpack.NeverIndexedHeaderTuple(n, v) for n, v, i in fields]
            )
            expected: Fields = {}
            for name, value, _ in fields:
                expected.setdefault(name, value)
            assert blocks.decode(block) == expected


def test_the_same_bytes_are_read_once_until_the_table_changes() -> None:
    read: list[Fields] = []
    blocks = Blocks(lambda fields: read.append(fields) or fields)
    encoder = hpack.Encoder()
    encoder.encode([(b"a", b"1")])
    blocks.decode(hpack.Encoder().encode([(b"a", b"1")]))
    again = encoder.encode([(b"a", b"1")])
    assert len(again) == 1
    assert blocks.decode(again) is blocks.decode(again)
    assert len(read) == 2
    blocks.decode(encoder.encode([(b"b", b"2")]))
    assert blocks.decode(encoder.encode([(b"a", b"1")])) == {b"a": b"1"}
    assert blocks.decode(again) == {b"b": b"2"}, "the byte names the newest entry, which is another now"


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(block: bytes) -> None:
    """Whatever it is: read twice alike, or refused."""
    blocks = Blocks(kept)
    try:
        first = blocks.decode(block)
    except Violation:
        return
    assert blocks._decoder.changes or blocks.decode(block) == first


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 300, 20_000])
def test_literals_are_what_a_decoder_reads(size: int) -> None:
    text = b"v" * size
    assert hpack.Decoder().decode(literal(b"name", text), raw=True) == [(b"name", text)]
