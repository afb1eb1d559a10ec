"""HPACK as it is read: every block means what the package `hpack` makes of it, on every connection."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.http2 import decoder
from supervisor.http2.decoder import MAX_LIST_BYTES, MAX_TABLE_BYTES, Decoder, Field
from supervisor.http2.frames import Code, Violation

NAMES = st.sampled_from([b":path", b":method", b"te", b"containerd-lease", b"x" * 300])
VALUES = st.one_of(st.sampled_from([b"POST", b"trailers", b"", b"y" * 3000]), st.binary(max_size=300))
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=6)
SPOKEN = st.lists(
    st.tuples(st.integers(0, 2), FIELDS, st.booleans(), st.integers(0, MAX_TABLE_BYTES)), max_size=12
)

PIECES = st.sampled_from(
    [
        b"\x82",
        b"\xbe",
        b"\xbf",
        b"\x7e\x01a",
        b"\x40\x01a\x01b",
        b"\x00\x01a\x81\x1f",
        b"\x10\x00\x00",
        b"\x20",
    ]
)
BLOCKS = st.lists(st.one_of(st.binary(max_size=24), st.lists(PIECES, max_size=6).map(b"".join)), max_size=4)


class Reference:
    """The package's decoder, which also ends with its first error."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_LIST_BYTES)

    def decode(self, block: bytes) -> list[Field] | None:
        """The fields, None for a block that it refuses."""
        try:
            return [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.HPACKError:
            return None


def decoded(reader: Decoder, block: bytes) -> list[Field] | None:
    try:
        return list(reader.decode(block))
    except Violation as broken:
        return None if broken.code is Code.COMPRESSION_ERROR else []


@given(SPOKEN)
def test_interleaved_connections_are_each_read_as_hpack_reads_them(spoken: list) -> None:
    """With entries evicted, tables resized, fields that are never indexed, Huffman's code and none."""
    connections = [(hpack.Encoder(), Decoder(), Reference()) for _ in range(3)]
    for number, fields, huffman, table in spoken:
        encoder, reader, reference = connections[number]
        if table % 4 == 0:
            encoder.header_table_size = table
        kinds = [hpack.NeverIndexedHeaderTuple, hpack.HeaderTuple]
        block = encoder.encode([kinds[indexed](n, v) for n, v, indexed in fields], huffman=huffman)
        assert decoded(reader, block) == reference.decode(block) == [(n, v) for n, v, _ in fields]


@given(BLOCKS)
@example([b"\x80"])  # no entry has the number 0 (6.1)
@example([b"\xbe"])  # nor this one in an empty table
@example([b"\x82\x20"])  # the table's size behind a field (4.2)
@example([b"\x3f\xe2\x1f"])  # a table of 4097 bytes
@example([b"\x40\x01a\x01b", b"\x20", b"\xbe"])  # an entry that was evicted
@example([b"\xff\x80\x80\x80\x80\x00"])  # the longest integer that is read (5.1)
@example([b"\xff\x80\x80\x80\x80\x80\x00"])
@example([b"\x00\x01a\x82\xff\xff"])  # padding of more than seven bits (5.2)
@example([b"\x00\x01a\x84\xff\xff\xff\xff"])  # Huffman's end of string (5.2)
@example([b"\x00\x01a\x05b"])
def test_any_bytes_are_read_or_refused_as_by_hpack(blocks: list[bytes]) -> None:
    reader, reference = Decoder(), Reference()
    for block in blocks:
        expected = reference.decode(block)
        assert decoded(reader, block) == expected
        if expected is None:
            return


def test_changes_tell_whether_blocks_may_mean_something_else() -> None:
    reader = Decoder()
    for block, changes in ((b"\x82", 0), (b"\x00\x01a\x01b", 0), (b"\x40\x01a\x01b", 1), (b"\x20", 2)):
        list(reader.decode(block))
        assert reader.changes == changes


def test_a_table_has_a_bound() -> None:
    reader = Decoder()
    for _ in range(3 * MAX_TABLE_BYTES // 33):
        list(reader.decode(b"\x40\x00\x01a"))
    assert len(reader._table) == MAX_TABLE_BYTES // 33
    list(reader.decode(b"\x40\x00\x7f\x81\x1f" + bytes(MAX_TABLE_BYTES)))
    assert (len(reader._table), reader._bytes) == (0, 0), "what is larger than the table empties it (4.4)"


def test_a_small_block_that_means_a_large_list_is_not_read_to_its_end() -> None:
    reader = Decoder()
    list(reader.decode(hpack.Encoder().encode([(b"x", b"y" * 3000)])))
    read: list[Field] = []
    with pytest.raises(Violation, match="more than 65536"):
        read.extend(reader.decode(b"\xbe" * 8000))
    assert len(read) * 3033 <= MAX_LIST_BYTES


def test_what_is_remembered_of_strings_has_a_bound() -> None:
    """Not the long ones, and of short ones no more than a fixed number."""
    remembered, encoder = decoder._unpacked.cache_info, hpack.Encoder()
    decoder._unpacked.cache_clear()
    long = (b":path", b"a" * 2 * decoder._REMEMBERED_BYTES)
    assert list(Decoder().decode(encoder.encode([long]))) == [long]
    assert remembered().currsize == 0
    for number in range(2 * decoder._REMEMBERED):
        block = encoder.encode([hpack.NeverIndexedHeaderTuple(b":path", b"%d" % number)])
        assert list(Decoder().decode(block)) == [(b":path", b"%d" % number)]
    assert remembered().currsize == decoder._REMEMBERED
