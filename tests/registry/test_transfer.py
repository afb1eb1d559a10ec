"""Resolve, fetch and push against Debian's docker-registry: plain, TLS, behind a login."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from supervisor.errors import (
    InvalidArgument,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from supervisor.oci import image, references
from supervisor.registry.credentials import Credential, Given
from supervisor.registry.fetcher import Fetcher
from supervisor.registry.hosts import Hosts
from supervisor.registry.pusher import Outcome, Pusher
from supervisor.registry.resolver import resolve
from tests.images import busybox_oci_tar
from tests.registries import PASSWORD, USER, needs_registry
from tests.registry.images import (
    MIB,
    QUICK,
    Content,
    content,
    fetch,
    push,
    random_layer,
    reference,
    session,
    small_image,
)

pytestmark = [needs_registry, pytest.mark.compat]


def test_an_image_comes_back_as_it_was_pushed(registry):
    one = small_image()
    name = reference(registry.host, "tests/round")
    with session() as opened:
        assert set(push(opened, name, one)) == {Outcome.UPLOADED}
        assert set(push(opened, name, one)) == {Outcome.EXISTS}
    with session() as opened:
        assert resolve(opened, name) == (str(name), one.manifest.descriptor)
        fetcher = Fetcher(opened, name)
        for part in (one.manifest, *one.blobs):
            assert fetcher.read(part.descriptor) == part.data


def test_a_digest_resolves_to_itself_also_beside_a_tag(registry, image):
    digest = image.manifest.descriptor.digest
    with session() as opened:
        for tail in (f"@{digest}", f":1@{digest}", f":nothing@{digest}"):
            _, found = resolve(opened, references.parse(f"{registry.host}/tests/app{tail}"))
            assert found == image.manifest.descriptor


def test_what_is_not_there_is_not_found_and_the_error_says_where(registry, image):
    missing = random_layer(100, seed=99).descriptor
    with session() as opened:
        with pytest.raises(NotFound, match=rf"resolve of .*tests/app:2 at {registry.host}.*last status 404"):
            resolve(opened, reference(registry.host, tag="2"))
        with pytest.raises(NotFound, match=f"fetch {missing.digest}.*at {registry.host}.*0 of 100 bytes"):
            Fetcher(opened, reference(registry.host)).read(missing)


def test_a_name_without_tag_and_digest_is_not_resolved():
    with session() as opened, pytest.raises(InvalidArgument, match=":latest"):
        resolve(opened, references.parse("127.0.0.1:1/a"))


def test_a_fetch_begins_at_an_offset_and_is_verified_with_the_hash_of_what_was_before(registry, image):
    layer = image.layers[0]
    before = hashlib.sha256(layer.data[:300])
    pieces: list[bytes] = []
    with session() as opened:
        fetcher = Fetcher(opened, reference(registry.host))
        fetcher.fetch_into(layer.descriptor, pieces.append, 300, running=before)
        assert b"".join(pieces) == layer.data[300:]
        wrong = hashlib.sha256(b"something else")
        with pytest.raises(Exception, match="is not what was asked for"):
            fetcher.fetch_into(layer.descriptor, pieces.append, 300, running=wrong)
        fetcher.fetch_into(layer.descriptor, pieces.append, 1000, running=hashlib.sha256(layer.data))
        with pytest.raises(InvalidArgument, match="1000 bytes"):
            fetcher.open(layer.descriptor, 1001)


def test_an_empty_blob_is_pushed_and_fetched(registry):
    empty = content(b"")
    name = reference(registry.host, "tests/empty")
    with session() as opened:
        assert Pusher(opened, name).push(empty.descriptor, empty.opened) is Outcome.UPLOADED
        assert fetch(opened, name, empty.descriptor) == b""


def test_a_blob_is_mounted_from_another_repository(registry, image):
    layer = image.layers[1]
    name = reference(registry.host, "tests/mounted")
    offsets: list[int] = []
    with session() as opened:
        pusher = Pusher(opened, name)
        done = pusher.push(
            layer.descriptor, _never, mount_from=("tests/nothing", "tests/app"), on_offset=offsets.append
        )
        assert done is Outcome.MOUNTED
        assert offsets[-1] == layer.descriptor.size
        assert pusher.push(layer.descriptor, _never) is Outcome.EXISTS


def test_a_blob_goes_in_pieces_where_that_is_wanted(registry):
    layer = random_layer(2 * MIB + 17, seed=5)
    name = reference(registry.host, "tests/pieces")
    offsets: list[int] = []
    with session(replace(QUICK, upload_chunk_bytes=MIB)) as opened:
        done = Pusher(opened, name).push(layer.descriptor, layer.opened, on_offset=offsets.append)
        assert done is Outcome.UPLOADED
        assert fetch(opened, name, layer.descriptor) == layer.data
    assert offsets == sorted(offsets)
    assert offsets[-1] == layer.descriptor.size


def test_a_manifest_that_names_what_is_not_there_is_refused_with_the_registrys_words(registry):
    one = small_image(seed=77)
    name = reference(registry.host, "tests/incomplete")
    with session() as opened, pytest.raises(InvalidArgument, match="MANIFEST_BLOB_UNKNOWN"):
        Pusher(opened, name).push(one.manifest.descriptor, one.manifest.opened, tag="1")


def test_a_login_opens_the_registry(login_registry):
    name = reference(login_registry.host)
    one = small_image()
    with session(credentials=Given(login_registry.host, Credential(USER, PASSWORD))) as opened:
        push(opened, name, one)
        assert resolve(opened, name)[1] == one.manifest.descriptor
    with session() as opened, pytest.raises(Unauthenticated, match="there are none for this host"):
        resolve(opened, name)


def test_a_wrong_password_is_said_to_be_wrong_and_is_not_repeated_in_the_error(login_registry):
    wrong = Given(login_registry.host, Credential(USER, "hunter2"))
    with session(credentials=wrong) as opened, pytest.raises(Unauthenticated, match="not accepted") as caught:
        resolve(opened, reference(login_registry.host))
    assert "hunter2" not in str(caught.value) + repr(wrong) + repr(caught.value)
    assert caught.value.account.status == 401


def test_a_credential_is_not_for_another_registry(login_registry):
    other = Given("registry.example:5000", Credential(USER, PASSWORD))
    with session(credentials=other) as opened, pytest.raises(Unauthenticated):
        resolve(opened, reference(login_registry.host))


def test_tls_needs_its_ca_and_the_clients_certificate(tls_registry, certificates, tmp_path):
    name = reference(tls_registry.host)
    folder = tmp_path / f"127.0.0.1_{tls_registry.port}_"
    folder.mkdir()
    file = folder / "hosts.toml"
    one = small_image()
    certificate = f'client = [["{certificates.client}", "{certificates.client_key}"]]'

    file.write_text(f'ca = "{certificates.ca}"\n{certificate}\n')
    with session(hosts=Hosts(tmp_path)) as opened:
        push(opened, name, one)
        assert fetch(opened, name, one.layers[1].descriptor) == one.layers[1].data

    file.write_text(f"{certificate}\nskip_verify = false\n")
    with (
        session(hosts=Hosts(tmp_path)) as opened,
        pytest.raises(Unavailable, match=r"not trusted.*hosts\.toml"),
    ):
        resolve(opened, name)

    file.write_text(f'ca = "{certificates.ca}"\n')
    with (
        session(hosts=Hosts(tmp_path)) as opened,
        pytest.raises(Unavailable, match=r"TLS failed|was cut|reset"),
    ):
        resolve(opened, name)


def test_dockers_certificate_files_do_as_well(tls_registry, certificates, tmp_path):
    folder = tmp_path / f"127.0.0.1:{tls_registry.port}"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(certificates.ca.read_bytes())
    (folder / "us.cert").write_bytes(certificates.client.read_bytes())
    (folder / "us.key").write_bytes(certificates.client_key.read_bytes())
    with session(hosts=Hosts(tmp_path)) as opened, pytest.raises(NotFound):
        resolve(opened, reference(tls_registry.host, "tests/none"))


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="no skopeo: apt-get install skopeo")
def test_skopeo_agrees(registry, tmp_path):
    one = busybox_oci_tar(tmp_path / "busybox.tar")
    there = f"docker://{registry.host}/tests/skopeo"
    skopeo("copy", "--dest-tls-verify=false", f"oci-archive:{one}", f"{there}:theirs")

    theirs = reference(registry.host, "tests/skopeo", "theirs")
    ours = reference(registry.host, "tests/ours", "1")
    with session() as opened:
        _, target = resolve(opened, theirs)
        fetcher, pusher = Fetcher(opened, theirs), Pusher(opened, ours)
        data = fetcher.read(target)
        manifest = image.parse_manifest(data, target.media_type)
        for part in (*manifest.layers, manifest.config):
            blob = Content(part, fetcher.read(part))
            pusher.push(part, blob.opened)
        whole = Content(target, data)
        pusher.push(target, whole.opened, tag="1")
        pusher.push(target, whole.opened)

    found = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{ours}"))
    assert found["Digest"] == target.digest
    assert found["Layers"] == [layer.digest for layer in manifest.layers]
    skopeo("copy", "--src-tls-verify=false", f"docker://{ours}", f"dir:{tmp_path / 'copied'}")
    assert (tmp_path / "copied/manifest.json").read_bytes() == data


def skopeo(*words: str) -> str:
    return subprocess.run(["skopeo", *words], check=True, capture_output=True, text=True).stdout


def test_nobody_answers(registry):
    with session() as opened, pytest.raises(Unavailable, match=r"connection refused.*5 attempts"):
        resolve(opened, reference("127.0.0.1:1"))


def _never(offset: int):
    raise AssertionError("its bytes are not wanted")
