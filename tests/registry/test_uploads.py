"""Uploads that are cut off: what the registry has is not sent again, if it can say what it has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.errors import (
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    PermissionDenied,
    Unavailable,
    Unimplemented,
)
from supervisor.registry.pusher import Outcome, Pusher
from tests.registries import needs_registry
from tests.registry import faults
from tests.registry.images import MIB, QUICK, fetch, random_layer, reference, session
from tests.registry.uploads import Uploads

LAYER = random_layer(3 * MIB + 5, seed=8)
SIZE = LAYER.descriptor.size


@pytest.fixture
def front():
    with faults.before() as running:
        yield running


@pytest.fixture
def uploads(front):
    made = Uploads()
    made.install(front)
    return made


def pushed(front, settings=QUICK, source=None, **more):
    with session(settings) as opened:
        return Pusher(opened, reference(front.host)).push(LAYER.descriptor, source or LAYER.opened, **more)


def content_of(front):
    """The requests that carried content: method, bytes that arrived."""
    return [(seen.method, seen.received) for seen in front.seen if seen.method in ("PUT", "PATCH")]


def test_a_blob_goes_in_one_request(front, uploads):
    assert pushed(front) is Outcome.UPLOADED
    assert uploads.stored == LAYER.data
    assert content_of(front) == [("PUT", SIZE)]


def test_one_that_is_cut_off_goes_on_where_the_registry_says(front, uploads):
    uploads.cuts = [MIB, 1000]
    offsets: list[int] = []
    pushed(front, on_offset=offsets.append)
    assert uploads.stored == LAYER.data
    assert uploads.begun == 1
    rest = SIZE - MIB - 1000
    assert content_of(front) == [("PUT", MIB), ("PATCH", 1000), ("PATCH", rest), ("PUT", 0)]
    assert offsets[-1] == SIZE


def test_pieces_go_on_too(front, uploads):
    uploads.cuts = [1000]
    pushed(front, replace(QUICK, upload_chunk_bytes=MIB))
    assert uploads.stored == LAYER.data
    assert sum(received for _, received in content_of(front)) == SIZE


def test_a_registry_that_has_forgotten_gets_it_anew(front, uploads):
    uploads.cuts = [MIB]
    uploads.remembers = False
    pushed(front)
    assert uploads.stored == LAYER.data
    assert uploads.begun == 2


def test_a_registry_that_reads_slowly_has_more_time_than_one_that_does_not_answer(front, uploads):
    big = random_layer(16 * MIB, seed=9)

    def slowly(exchange):
        exchange.faults.over.wait(0.4)
        uploads.close(exchange)

    front.rules.insert(0, faults.Rule("PUT", "", slowly, 1))
    with session(replace(QUICK, dial_timeout=0.1)) as opened:
        Pusher(opened, reference(front.host)).push(big.descriptor, big.opened)
    assert uploads.stored == big.data
    assert len(content_of(front)) == 1


def test_the_time_of_the_whole_transfer_is_kept_also_when_nobody_reads(front, uploads):
    big = random_layer(16 * MIB, seed=9)
    front.rules.insert(0, faults.Rule("PUT", "", faults.silence(), 1))
    short = replace(QUICK, total=0.5, stall_window=0.0)
    with session(short) as opened, pytest.raises(DeadlineExceeded, match=r"push sha256:.*longer than 0\.5 s"):
        Pusher(opened, reference(front.host)).push(big.descriptor, big.opened)


def test_an_upload_that_never_gets_on_is_given_up_with_the_facts(front, uploads):
    uploads.cuts = [0] * 100
    facts = rf"push {LAYER.descriptor.digest}.*at {front.host}: .*of {SIZE} bytes, 3 attempts"
    with pytest.raises(Unavailable, match=facts):
        pushed(front, replace(QUICK, attempts=3))


def test_a_registry_that_does_not_begin_is_asked_as_often_as_the_settings_say(front):
    front.on("HEAD", "", faults.answer(404))
    front.on("POST", "", faults.answer(503))
    with pytest.raises(Unavailable, match=r"5 attempts, last status 503"):
        pushed(front)
    assert len(front.asked("POST")) == 5


@pytest.mark.parametrize("place", ["", "http://[::1", "ftp://x/", "/"])
def test_a_place_for_the_upload_that_is_none_is_refused(front, place):
    front.on("HEAD", "", faults.answer(404))
    front.on("POST", "", faults.answer(202, **({"Location": place} if place else {})))
    front.on("PUT", "", faults.answer(405))
    with pytest.raises((Unavailable, Unimplemented), match=r"does not say where|no URL|last status 405"):
        pushed(front)


def test_a_source_with_too_few_bytes_is_an_error_of_ours(front, uploads):
    short = replace(LAYER, data=LAYER.data[:MIB])
    with pytest.raises(DataLoss, match=f"only {MIB} of its bytes are here"):
        pushed(front, source=short.opened)
    assert uploads.stored is None


def test_a_registry_that_stores_something_else_is_found_out(front):
    front.on("HEAD", "", faults.answer(404))
    front.on("POST", "", faults.answer(202, Location="/up"))
    front.on("PUT", "", faults.answer(201, Docker_Content_Digest="sha256:" + "0" * 64))
    with pytest.raises(DataLoss, match="stored the blob as"):
        pushed(front)


def test_a_proxy_that_takes_no_large_requests_gets_smaller_ones(front, uploads):
    uploads.largest = MIB
    pushed(front)
    assert uploads.stored == LAYER.data
    assert max(received for _, received in content_of(front)) <= MIB


def test_a_proxy_that_takes_next_to_nothing_is_told_of(front, uploads):
    uploads.largest = 1000
    with pytest.raises(InvalidArgument, match="takes no requests of this size"):
        pushed(front)


def test_pieces_are_as_large_as_the_registry_wants_them(front, uploads):
    uploads.least = MIB + 1
    pushed(front, replace(QUICK, upload_chunk_bytes=1000))
    assert uploads.stored == LAYER.data
    assert content_of(front) == [*[("PATCH", MIB + 1)] * 3, ("PATCH", 2), ("PUT", 0)]


def test_a_refusal_is_told_in_the_registrys_words(front):
    front.on("HEAD", "", faults.answer(404))
    words = b'{"errors":[{"code":"DENIED","message":"read only\\u001b[31m"}]}'
    front.on("POST", "", faults.answer(403, words))
    with pytest.raises(PermissionDenied, match=r"DENIED: read only \[31m; these credentials may not"):
        pushed(front)


@needs_registry
@pytest.mark.compat
@pytest.mark.parametrize("pieces", [0, MIB])
def test_docker_registry_has_the_blob_in_the_end(registry, pieces):
    with faults.before(registry.host) as front:
        front.on("PUT" if not pieces else "PATCH", "/uploads/", faults.cut_upload(after=MIB // 2), times=2)
        name = reference(front.host, f"tests/cut{pieces}")
        with session(replace(QUICK, upload_chunk_bytes=pieces)) as opened:
            assert Pusher(opened, name).push(LAYER.descriptor, LAYER.opened) is Outcome.UPLOADED
            assert fetch(opened, name, LAYER.descriptor) == LAYER.data
