"""One blob over several connections is the same stream as over one."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace

import pytest

from supervisor.errors import Cancelled, DataLoss, Unavailable
from supervisor.registry.fetcher import Fetcher
from tests.registries import needs_registry
from tests.registry import faults
from tests.registry.images import QUICK, fetch, push, reference, session, small_image

pytestmark = [needs_registry, pytest.mark.compat]

CHUNK = 256 << 10
PARALLEL = replace(QUICK, parallel_chunks=3, chunk_bytes=CHUNK, parallel_below=1e12)


@pytest.fixture
def front(registry, image):
    with faults.before(registry.host) as running:
        yield running


@pytest.fixture
def layer(image):
    return image.layers[1]


def ranges(front):
    """The ranges that were asked for, as pairs of first and last byte."""
    found = [re.fullmatch(r"bytes=(\d+)-(\d+)", seen.range) for seen in front.asked("GET", "/blobs/")]
    return sorted((int(one[1]), int(one[2])) for one in found)


def test_the_pieces_are_disjoint_and_the_whole_is_right(front, layer):
    with session(PARALLEL) as opened:
        assert fetch(opened, reference(front.host), layer.descriptor) == layer.data
    size = layer.descriptor.size
    assert ranges(front) == [(at, min(at + CHUNK, size) - 1) for at in range(0, size, CHUNK)]
    assert front.sent() == size


@pytest.mark.parametrize("offset", [1, CHUNK - 1, CHUNK, 3 * CHUNK + 17])
def test_it_begins_anywhere(front, layer, offset):
    pieces: list[bytes] = []
    with session(PARALLEL) as opened:
        Fetcher(opened, reference(front.host)).fetch_into(layer.descriptor, pieces.append, offset)
    assert b"".join(pieces) == layer.data[offset:]


@pytest.mark.parametrize("size", [2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK, 3 * CHUNK - 1, 7 * CHUNK + 12345])
def test_whatever_its_size(registry, size):
    one = small_image((size,), seed=size)
    name = reference(registry.host, "tests/sizes")
    with session(PARALLEL) as opened:
        push(opened, name, one)
        assert fetch(opened, name, one.layers[0].descriptor) == one.layers[0].data


def test_pieces_that_are_cut_are_resumed_each_for_itself(front, layer):
    front.on("GET", "/blobs/", faults.cut(after=100_000), times=6)
    with session(PARALLEL) as opened:
        assert fetch(opened, reference(front.host), layer.descriptor) == layer.data
    assert front.sent() == layer.descriptor.size


def test_a_host_that_ignores_ranges_is_read_in_one_piece(front, layer):
    front.on("GET", "/blobs/", faults.ignore_range())
    with session(PARALLEL) as opened:
        assert fetch(opened, reference(front.host), layer.descriptor) == layer.data
    assert len(front.asked("GET", "/blobs/")) == 1


def test_a_fast_host_is_asked_for_the_rest_in_one_piece(front, layer):
    with session(replace(PARALLEL, parallel_below=1.0)) as opened:
        assert fetch(opened, reference(front.host), layer.descriptor) == layer.data
    assert ranges(front) == [(0, CHUNK - 1), (CHUNK, layer.descriptor.size - 1)]


def test_a_bad_byte_in_a_piece_is_found_at_the_end(front, layer):
    front.on("GET", "/blobs/", faults.corrupt(at=10), times=2)
    with session(PARALLEL) as opened, pytest.raises(DataLoss, match="not what was asked for"):
        fetch(opened, reference(front.host), layer.descriptor)


def test_a_piece_that_cannot_be_had_is_the_error_of_the_whole(front, layer):
    front.on("GET", "/blobs/", faults.Exchange.forward, times=4)
    front.on("GET", "/blobs/", faults.answer(503))
    with session(PARALLEL) as opened, pytest.raises(Unavailable, match="last status 503"):
        fetch(opened, reference(front.host), layer.descriptor)


def test_a_reader_that_does_not_read_holds_the_others_back(front, layer):
    with session(PARALLEL) as opened:
        reader = Fetcher(opened, reference(front.host)).open(layer.descriptor)
        got = b""
        while len(got) <= CHUNK:
            got += reader.read()
        opened.chunk_threads().shutdown(wait=True)
        assert len(front.asked("GET", "/blobs/")) <= 1 + PARALLEL.parallel_chunks
        reader.close()


def test_the_memory_it_takes_is_that_of_the_pieces_under_way(registry):
    big = small_image((64 * CHUNK,), seed=3)
    name = reference(registry.host, "tests/memory")
    with session(PARALLEL) as opened:
        push(opened, name, big)
        tracemalloc.start()
        try:
            Fetcher(opened, name).fetch_into(big.layers[0].descriptor, len)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4 * PARALLEL.parallel_chunks * CHUNK < big.layers[0].descriptor.size / 4


def test_a_transfer_that_is_given_up_ends_while_pieces_are_under_way(front, layer):
    front.on("GET", "/blobs/", faults.Exchange.forward, times=1)
    front.on("GET", "/blobs/", faults.silence())
    with session(replace(PARALLEL, stall_window=60.0)) as opened:
        reader = Fetcher(opened, reference(front.host)).open(layer.descriptor)
        got = 0
        while got < CHUNK:
            got += len(reader.read())
        opened.cancel()
        with pytest.raises(Cancelled):
            reader.read()
        reader.close()


def test_small_blobs_are_not_cut_up(front, image):
    with session(PARALLEL) as opened:
        assert fetch(opened, reference(front.host), image.layers[0].descriptor) == image.layers[0].data
    assert [seen.range for seen in front.asked("GET", "/blobs/")] == [""]
