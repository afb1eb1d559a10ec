"""Messages cut out of a stream of bytes."""

from __future__ import annotations

import gzip
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import Internal, ResourceExhausted
from supervisor.http2.messages import Assembler, framed


@given(st.lists(st.binary(max_size=50), max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_messages_come_whole_however_the_bytes_come(sent: list[bytes], cuts: list[int]) -> None:
    data, found, assembler, place = b"".join(map(framed, sent)), [], Assembler(50), 0
    while data:
        size, place = cuts[place % len(cuts)], place + 1
        found += assembler.feed(data[:size])
        data = data[size:]
    assert found == sent
    assert not assembler.incomplete


def packed(data: bytes) -> bytes:
    return struct.pack(">BI", 1, len(data)) + data


def test_gzip_is_unpacked_up_to_the_limit() -> None:
    assert list(Assembler(100, gzipped=True).feed(packed(gzip.compress(bytes(100))))) == [bytes(100)]
    with pytest.raises(ResourceExhausted, match="at most 100"):
        list(Assembler(100, gzipped=True).feed(packed(gzip.compress(bytes(50_000)))))
    for broken in (gzip.compress(b"x")[:-3], b"no gzip"):
        with pytest.raises(Internal, match="decompress a message"):
            list(Assembler(100, gzipped=True).feed(packed(broken)))
