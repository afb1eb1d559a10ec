"""What a registry or the way to it may do to us, and what we then do: one fault at a time."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest

from supervisor.errors import Cancelled, DataLoss, DeadlineExceeded, NotFound, PermissionDenied, Unavailable
from supervisor.registry.fetcher import Fetcher
from supervisor.registry.hosts import Hosts
from supervisor.registry.resolver import resolve
from tests.registries import needs_registry
from tests.registry import faults
from tests.registry.images import MIB, QUICK, fetch, push, reference, session, small_image

pytestmark = [needs_registry, pytest.mark.compat]


@pytest.fixture
def front(registry, image):
    """A misbehaving server before the registry that has the image."""
    with faults.before(registry.host) as running:
        yield running


@pytest.fixture
def layer(image):
    return image.layers[1]


SERIAL = replace(QUICK, parallel_chunks=1)


def test_a_cut_connection_is_resumed_where_it_was_cut(front, layer):
    front.on("GET", "/blobs/", faults.cut(after=MIB), times=3)
    with session(SERIAL) as opened:
        assert fetch(opened, reference(front.host), layer.descriptor) == layer.data
    size = layer.descriptor.size
    ranges = [seen.range for seen in front.asked("GET", "/blobs/")]
    assert ranges == ["", *(f"bytes={n * MIB}-{size - 1}" for n in (1, 2, 3))]
    assert front.sent() == size


def test_a_connection_may_be_cut_often_while_it_gets_on(front, layer):
    front.on("GET", "/blobs/", faults.cut(after=1_100_000), times=5)
    with session(replace(SERIAL, attempts=2)) as opened:
        assert fetch(opened, reference(front.host), layer.descriptor) == layer.data


def test_one_that_does_not_get_on_is_given_up_with_all_the_facts(front, layer):
    front.on("GET", "/blobs/", faults.cut(after=1000))
    with session(replace(SERIAL, attempts=3)) as opened:
        facts = rf"connection was cut \(by {front.host}\) \(3000 of {layer.descriptor.size} bytes, 3 attempts"
        with pytest.raises(Unavailable, match=facts) as caught:
            fetch(opened, reference(front.host), layer.descriptor)
    assert caught.value.account.received == 3000


def test_a_host_that_ignores_ranges_is_read_again_and_the_known_part_dropped(front, layer):
    front.on("GET", "/blobs/", faults.cut(after=MIB), times=1)
    front.on("GET", "/blobs/", faults.ignore_range())
    with session(SERIAL) as opened:
        assert fetch(opened, reference(front.host), layer.descriptor) == layer.data
    assert front.sent() == layer.descriptor.size + MIB


def test_a_range_that_was_not_asked_for_is_refused(front, layer):
    wrong = faults.answer(206, b"x" * 10, Content_Range=f"bytes 5-14/{layer.descriptor.size}")
    front.on("GET", "/blobs/", faults.cut(after=MIB), times=1)
    front.on("GET", "/blobs/", wrong)
    with session(SERIAL) as opened, pytest.raises(Unavailable, match="another range"):
        fetch(opened, reference(front.host), layer.descriptor)


def test_a_bad_byte_is_found_at_the_end_and_the_next_attempt_asks_somebody_else_first(
    front, registry, layer, tmp_path
):
    front.on("GET", "/blobs/", faults.corrupt(at=MIB + 5))
    hosts = mirrored(tmp_path, registry.host, front.host)
    with session(SERIAL, hosts=hosts) as opened:
        fetcher = Fetcher(opened, reference(registry.host))
        pieces: list[bytes] = []
        with pytest.raises(DataLoss, match=f"at {front.host}: what was sent is not what was asked for"):
            fetcher.fetch_into(layer.descriptor, pieces.append)
        assert b"".join(pieces) != layer.data
        pieces.clear()
        fetcher.fetch_into(layer.descriptor, pieces.append)
        assert b"".join(pieces) == layer.data
    assert len(front.asked("GET", "/blobs/")) == 1


def test_another_size_than_the_manifest_says_is_refused_before_the_first_byte(front, layer):
    lying = replace(layer.descriptor, size=layer.descriptor.size + 1)
    with session(SERIAL) as opened, pytest.raises(DataLoss, match=r"has \d+ bytes under this digest"):
        fetch(opened, reference(front.host), lying)


def test_content_in_an_encoding_that_was_not_asked_for_is_refused(front, layer):
    size = layer.descriptor.size
    front.on("GET", "/blobs/", faults.answer(200, b"x" * size, Content_Encoding="gzip"))
    with session(SERIAL) as opened, pytest.raises(Unavailable, match="encoded as 'gzip'"):
        fetch(opened, reference(front.host), layer.descriptor)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_passing_failure_passes(front, image, status):
    front.on("HEAD", "/manifests/", faults.answer(status), times=2)
    with session() as opened:
        assert resolve(opened, reference(front.host))[1] == image.manifest.descriptor
    assert len(front.asked("HEAD")) == 3


def test_retry_after_is_what_is_waited(front, image):
    front.on("HEAD", "/manifests/", faults.answer(429, Retry_After="0"), times=2)
    impatient = replace(QUICK, backoff=1000.0, backoff_limit=1000.0)
    with session(impatient) as opened:
        assert resolve(opened, reference(front.host))[1] == image.manifest.descriptor


def test_a_host_that_asks_for_too_long_a_wait_is_given_up_at_once(front):
    front.on("HEAD", "/manifests/", faults.answer(429, Retry_After="3600"))
    facts = r"too many requests.*1 attempt, last status 429"
    with session() as opened, pytest.raises(Unavailable, match=facts):
        resolve(opened, reference(front.host))
    assert len(front.asked()) == 1


def test_a_host_that_never_recovers_is_given_up(front):
    front.on("HEAD", "/manifests/", faults.answer(503))
    with session(), session() as opened, pytest.raises(Unavailable, match=r"5 attempts, last status 503"):
        resolve(opened, reference(front.host))


WATCHFUL = replace(SERIAL, stall_window=0.2, stall_rate=1e6)


@pytest.mark.parametrize("fault", [faults.drip, faults.drip_header, faults.silence])
def test_a_host_that_is_too_slow_is_left_for_the_next_attempt(front, layer, fault):
    front.on("GET", "/blobs/", fault(), times=1)
    with session(WATCHFUL) as opened:
        assert fetch(opened, reference(front.host), layer.descriptor) == layer.data
    assert len(front.asked("GET", "/blobs/")) == 2


def test_one_connection_is_used_for_all_that_comes_one_after_the_other(front, image):
    with session(SERIAL) as opened:
        name = reference(front.host)
        resolve(opened, name)
        for part in (image.manifest, *image.blobs):
            fetch(opened, name, part.descriptor)
        one = small_image(seed=31)
        push(opened, reference(front.host, "tests/again"), one)
    assert len(front.seen) > 12
    assert len({seen.port for seen in front.seen}) == 1


def test_a_slow_reader_is_no_slow_host(front, layer):
    with session(WATCHFUL) as opened:
        reader = Fetcher(opened, reference(front.host)).open(layer.descriptor)
        pieces = [reader.read()]
        threading.Event().wait(2 * WATCHFUL.stall_window)
        while data := reader.read():
            pieces.append(data)
        reader.close()
    assert b"".join(pieces) == layer.data
    assert len(front.asked("GET", "/blobs/")) == 1


def test_the_error_says_how_slow_it_was(front, layer):
    front.on("GET", "/blobs/", faults.drip())
    facts = r"it sent \d+ bytes in \d+ s, which is too slow"
    with session(replace(WATCHFUL, attempts=1)) as opened, pytest.raises(Unavailable, match=facts):
        fetch(opened, reference(front.host), layer.descriptor)


@pytest.mark.parametrize("fault", [faults.drip, faults.drip_header, faults.silence])
def test_the_time_of_the_whole_transfer_is_kept_whatever_the_host_does(front, layer, fault):
    front.on("GET", "/blobs/", fault())
    short = replace(SERIAL, total=0.3, stall_window=0.0)
    facts = r"fetch sha256:.*took longer than 0\.3 s"
    with session(short) as opened, pytest.raises(DeadlineExceeded, match=facts):
        fetch(opened, reference(front.host), layer.descriptor)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_goes_wrong_in_whatever_order_the_bytes_are_right(front, layer, seed, parallel):
    chance = random.Random(seed)
    for _ in range(8):
        fault = chance.choice(
            [
                faults.cut(after=chance.randrange(2 * MIB)),
                faults.answer(chance.choice([429, 500, 502, 503, 504]), Retry_After="0"),
                faults.ignore_range(),
                faults.Exchange.forward,
            ]
        )
        front.on("GET", "/blobs/", fault, times=1)
    more = {"parallel_chunks": 3, "chunk_bytes": MIB, "parallel_below": 1e12} if parallel else {}
    with session(replace(SERIAL, attempts=20, **more)) as opened:
        assert fetch(opened, reference(front.host), layer.descriptor) == layer.data


def test_a_transfer_that_is_given_up_ends_also_while_it_waits(front, layer):
    front.on("GET", "/blobs/", faults.silence())
    patient = replace(SERIAL, stall_window=60.0)
    with session(patient) as opened:
        waiting = threading.Timer(0.1, opened.cancel)
        waiting.start()
        with pytest.raises(Cancelled):
            fetch(opened, reference(front.host), layer.descriptor)
        waiting.join()
        with pytest.raises(Cancelled):
            resolve(opened, reference(front.host))


def test_no_more_layers_at_a_time_than_the_settings_say(front, layer):
    with session(replace(SERIAL, parallel_layers=1)) as opened:
        fetcher = Fetcher(opened, reference(front.host))
        first = fetcher.open(layer.descriptor)
        second: list[bytes] = []
        other = threading.Thread(target=lambda: fetcher.fetch_into(layer.descriptor, second.append))
        other.start()
        assert first.read()
        other.join(0.05)
        assert not second
        first.close()
        first.close()
        other.join(20)
        assert b"".join(second) == layer.data


def test_documents_are_read_while_as_many_layers_as_may_be_are_under_way(front, image):
    with session(replace(SERIAL, parallel_layers=1)) as opened:
        fetcher = Fetcher(opened, reference(front.host))
        layer = fetcher.open(image.layers[1].descriptor)
        assert fetcher.read(image.config.descriptor) == image.config.data
        layer.close()


def test_a_mirror_comes_first_and_is_told_whom_it_stands_for(front, registry, image, tmp_path):
    hosts = mirrored(tmp_path, registry.host, front.host, '["pull", "resolve"]')
    with session(hosts=hosts) as opened:
        name = reference(registry.host)
        _, found = resolve(opened, name)
        assert fetch(opened, name, image.layers[0].descriptor) == image.layers[0].data
    assert found == image.manifest.descriptor
    assert [seen.path for seen in front.asked("HEAD")] == [
        f"/v2/tests/app/manifests/1?ns={registry.host.replace(':', '%3A')}"
    ]
    assert len(front.asked("GET", "/blobs/")) == 1


def test_a_mirror_that_may_only_pull_is_not_asked_what_a_tag_means(front, registry, image, tmp_path):
    hosts = mirrored(tmp_path, registry.host, front.host, '["pull"]')
    with session(hosts=hosts) as opened:
        resolve(opened, reference(registry.host))
    assert front.asked() == []


@pytest.mark.parametrize("status", [404, 403, 429, 500, 503])
def test_when_a_mirror_fails_the_registry_is_asked_without_a_wait(front, registry, image, tmp_path, status):
    front.on("*", "", faults.answer(status, Retry_After="30"))
    hosts = mirrored(tmp_path, registry.host, front.host, '["pull", "resolve"]')
    impatient = replace(QUICK, backoff=1000.0, backoff_limit=1000.0)
    with session(impatient, hosts=hosts) as opened:
        name = reference(registry.host)
        assert resolve(opened, name)[1] == image.manifest.descriptor
        assert fetch(opened, name, image.layers[1].descriptor) == image.layers[1].data


def test_a_download_that_a_mirror_began_goes_on_at_the_registry(front, registry, layer, tmp_path):
    front.on("GET", "/blobs/", faults.cut(after=MIB))
    with session(SERIAL, hosts=mirrored(tmp_path, registry.host, front.host)) as opened:
        assert fetch(opened, reference(registry.host), layer.descriptor) == layer.data
    assert front.sent() == MIB


def test_when_all_hosts_fail_the_error_tells_of_each(front, registry, image, tmp_path):
    hosts = mirrored(tmp_path, registry.host, front.host, '["pull", "resolve"]')
    front.on("*", "", faults.answer(503))
    facts = f"at {registry.host}: .*; before that {front.host}: "
    with session(hosts=hosts) as opened, pytest.raises(NotFound, match=facts):
        resolve(opened, reference(registry.host, tag="none"))


def test_a_registry_that_only_answers_get_is_resolved_too(front, image):
    front.on("HEAD", "/manifests/", faults.answer(405))
    with session() as opened:
        assert resolve(opened, reference(front.host))[1] == image.manifest.descriptor


def test_a_refusal_is_told_in_the_registrys_words_also_for_a_head(front):
    front.on("*", "/manifests/", faults.answer(403, b'{"errors":[{"code":"DENIED","message":"not paid"}]}'))
    with session() as opened, pytest.raises(PermissionDenied, match=r"DENIED: not paid.*last status 403"):
        resolve(opened, reference(front.host))


def test_digest_and_size_are_computed_when_a_host_does_not_tell_them(front, image):
    manifest = image.manifest
    front.on("HEAD", "", faults.answer(200, Content_Type=manifest.descriptor.media_type))
    front.on("GET", "", faults.answer(200, manifest.data, Content_Type="text/plain"))
    with session() as opened:
        assert resolve(opened, reference(front.host))[1] == manifest.descriptor


def test_a_manifest_that_is_not_the_one_its_header_names_is_refused(front, image):
    manifest = image.manifest
    other = image.config.descriptor.digest
    front.on("HEAD", "", faults.answer(405))
    front.on("GET", "", faults.answer(200, manifest.data, Docker_Content_Digest=other))
    with session() as opened, pytest.raises(DataLoss, match=f"and not {other}"):
        resolve(opened, reference(front.host))


def test_schema_1_is_refused_with_the_way_out(front):
    old = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    front.on("HEAD", "", faults.answer(200, Content_Type=old, Docker_Content_Digest="sha256:" + "0" * 64))
    with session() as opened, pytest.raises(Exception, match=r"schema 1.*push the image again") as caught:
        resolve(opened, reference(front.host))
    assert caught.value.code == 12


def mirrored(folder, registry, mirror, capabilities='["pull"]'):
    """A configuration that puts a mirror before a registry."""
    place = folder / registry
    place.mkdir()
    (place / "hosts.toml").write_text(
        f'server = "http://{registry}"\n[host."http://{mirror}"]\ncapabilities = {capabilities}\n'
    )
    return Hosts(folder)
