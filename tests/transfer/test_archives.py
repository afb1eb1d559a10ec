"""Archives as programs write them, imported under the names that rules give, and exported again."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from supervisor.errors import Cancelled, DataLoss, InvalidArgument, NotFound
from supervisor.metadata import images
from supervisor.model.descriptor import Descriptor
from supervisor.model.platform import Platform
from supervisor.oci import archive, platform
from supervisor.oci import image as documents
from supervisor.oci.image import Index
from supervisor.transfer import exporting, importing
from supervisor.transfer.exporting import Export
from supervisor.transfer.importing import Import
from supervisor.transfer.naming import NameRule, Naming
from supervisor.transfer.progress import silent
from supervisor.transfer.stores import Stores
from tests.images import TAG, busybox_docker_tar, busybox_oci_tar
from tests.transfer import world
from tests.transfer.world import NAMESPACE

BY_TAG = NameRule("example.com/base", is_prefix=True)
OTHERS = ("linux/amd64", "linux/arm64")


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with world.opened(tmp_path / "stores") as opened:
        yield opened


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The ordinary image in an OCI layout."""
    return busybox_oci_tar(tmp_path_factory.mktemp("plain") / "image.tar").read_bytes()


def target(stores: Stores, name: str) -> Descriptor:
    return stores.content.database.read(lambda c: images.get(c, NAMESPACE, name)).target


def labels(stores: Stores, name: str) -> dict[str, str]:
    return dict(stores.content.database.read(lambda c: images.get(c, NAMESPACE, name)).labels)


def exported(stores: Stores, *names: str, **asked: object) -> bytes:
    sink = io.BytesIO()
    with world.a_scope(stores) as scope:
        exporting.export(scope, Export(names, **asked), sink, silent)  # type: ignore[arg-type]
    return sink.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 1),
    "gzip of two members": lambda data: gzip.compress(data[:9999], 1) + gzip.compress(data[9999:], 1),
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lambda data: lzma.compress(data, preset=0),
}


@pytest.mark.parametrize("packed", PACKED)
def test_an_archive_may_be_compressed(stores: Stores, plain: bytes, packed: str) -> None:
    assert world.bring(stores, PACKED[packed](plain)) == [TAG]


@pytest.mark.parametrize(("damaged", "error"), [(b"", "archive"), (b"\x1f\x8b\x08" + bytes(50), "gzip")])
def test_what_is_no_archive_is_told(stores: Stores, damaged: bytes, error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        world.bring(stores, damaged)


def test_a_compressed_archive_that_is_cut_off_is_not_imported(stores: Stores, plain: bytes) -> None:
    with pytest.raises(InvalidArgument, match="ends in the middle"):
        world.bring(stores, gzip.compress(plain, 1)[:-5000])
    assert not stores.content.infos(NAMESPACE)


def test_what_docker_saved_gets_the_names_that_docker_means(stores: Stores, tmp_path: Path) -> None:
    """`docker save busybox` writes the short name; containerd makes the same manifest, to the byte."""
    path = busybox_docker_tar(tmp_path / "d.tar", tag="busybox-test:latest")
    assert world.bring(stores, path.read_bytes()) == [TAG]
    made = target(stores, TAG)
    assert made.media_type == documents.DOCKER_MANIFEST
    with world.a_scope(stores) as scope:
        document = scope.document(made)
    assert b" " not in document, "JSON as Go writes it, on which digests depend"
    assert list(json.loads(document)) == ["schemaVersion", "mediaType", "config", "layers"]


def test_layers_that_docker_linked_to_each_other(stores: Stores) -> None:
    """Before it knew of OCI, `docker save` wrote a layer once, and links to it where it came again."""
    layer = world.tar({"file": b"1"})
    config = json.dumps({"os": "linux", "architecture": "arm64", "rootfs": {"diff_ids": []}}).encode()
    listed = [{"Config": "c.json", "RepoTags": None, "Layers": ["one/layer.tar", "two/layer.tar"]}]
    files: dict[str, bytes | str] = {
        "one/layer.tar": layer,
        "two/layer.tar": "../one/layer.tar",
        "c.json": config,
        "manifest.json": json.dumps(listed).encode(),
    }
    names = world.bring(stores, world.tar(files), NameRule("saved", is_prefix=True, add_digest=True))
    with world.a_scope(stores) as scope:
        manifest = documents.parse_manifest(scope.document(target(stores, names[0])))
    assert [one.digest for one in manifest.layers] == [world.digest_of(layer)] * 2


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (NameRule("docker.io/library/busybox-test", is_prefix=True), [TAG]),
        (NameRule("docker.io/library", is_prefix=True), [TAG]),
        (NameRule("docker.io/library/busy", is_prefix=True), None),
        (NameRule("docker.io/library/busy", is_prefix=True, allow_overwrite=True), [TAG]),
        (NameRule("d", is_prefix=True, allow_overwrite=True, add_digest=True), [TAG, "d@{digest}"]),
        (
            NameRule("d", is_prefix=True, allow_overwrite=True, add_digest=True, skip_named_digest=True),
            [TAG],
        ),
        (NameRule("d", is_prefix=True, add_digest=True, skip_named_digest=True), ["d@{digest}"]),
    ],
)
def test_rules_for_names(stores: Stores, plain: bytes, rule: NameRule, names: list[str] | None) -> None:
    if names is None:
        with pytest.raises(NotFound, match="no image name found"):
            world.bring(stores, plain, rule)
        return
    found = world.bring(stores, plain, rule)
    digest = target(stores, found[0]).digest
    assert found == sorted(name.format(digest=digest) for name in names)


def test_a_tag_alone_is_put_behind_the_prefix(stores: Stores) -> None:
    packed, _ = world.layout([world.tar({"f": b"1"})], **{archive.REF_ANNOTATION: "v7"})
    assert world.bring(stores, packed, BY_TAG) == ["example.com/base:v7"]


def test_a_name_is_for_the_index_and_further_ones_last_as_long(stores: Stores, plain: bytes) -> None:
    names = world.bring(
        stores, plain, world.EVERY_NAME, NameRule("example.com/more:1"), name="example.com/all:1"
    )
    assert names == ["docker.io/library/busybox-test:latest", "example.com/all:1", "example.com/more:1"]
    index = target(stores, "example.com/all:1")
    assert index.media_type == documents.OCI_INDEX
    with world.a_scope(stores) as scope:
        listed = documents.parse_index(scope.document(index))
    assert [one.descriptor.digest for one in listed.entries] == [target(stores, TAG).digest]
    assert labels(stores, "example.com/all:1") == {}
    assert labels(stores, TAG)["containerd.io/gc.bref.image"] == "example.com/all:1"


def test_an_archive_that_lacks_a_layer_is_refused(stores: Stores) -> None:
    layer = world.tar({"f": b"1"})
    packed, _ = world.layout([layer], without=world.digest_of(layer))
    with pytest.raises(InvalidArgument, match=f"lacks {world.digest_of(layer)}"):
        world.bring(stores, packed)


def test_a_transfer_that_is_given_up_ends(stores: Stores, plain: bytes) -> None:
    with world.a_scope(stores) as scope:
        scope.deadline.cancel()
        asked = Import(Naming("", {}, [world.EVERY_NAME]))
        with pytest.raises(Cancelled):
            importing.import_stream(scope, io.BytesIO(plain), asked, silent)


def test_an_export_is_the_same_each_time_and_names_an_image_once(stores: Stores, plain: bytes) -> None:
    world.bring(stores, plain, world.EVERY_NAME, NameRule("d", is_prefix=True, add_digest=True))
    other = next(name for name in _names(stores) if name.startswith("d@"))
    first = exported(stores, TAG, other)
    assert first == exported(stores, TAG, other)
    files = world.files_of(first)
    assert json.loads(files["manifest.json"])[0]["RepoTags"] == ["busybox-test:latest"]
    assert len(json.loads(files["manifest.json"])) == 1
    assert len(json.loads(files["index.json"])["manifests"]) == 2
    assert "manifest.json" not in world.files_of(exported(stores, TAG, docker=False))


def _names(stores: Stores) -> list[str]:
    return [one.name for one in stores.content.database.read(lambda c: images.find(c, NAMESPACE))]


def test_platforms_of_an_index(stores: Stores, tmp_path: Path) -> None:
    """Those that are asked for are in the archive, all of them if all are, and none is not enough."""
    world.bring(stores, busybox_oci_tar(tmp_path / "i.tar", platforms=OTHERS).read_bytes())
    arm = Platform("linux", "arm64")
    only, everything = (
        world.files_of(exported(stores, TAG, platforms=[arm])),
        world.files_of(exported(stores, TAG, all_platforms=True)),
    )
    assert len(everything) - len(only) == 2, "a manifest and a configuration; layers are shared"
    config = json.loads(only["manifest.json"])[0]["Config"]
    assert json.loads(only[config])["architecture"] == "arm64"
    chosen = json.loads(everything["manifest.json"])[0]["Config"]
    assert json.loads(everything[chosen])["architecture"] == platform.host().architecture
    with pytest.raises(NotFound, match="offers linux/amd64, linux/arm64"):
        exported(stores, TAG, platforms=[Platform("linux", "s390x")])


def test_what_is_missing_or_damaged_is_not_exported(stores: Stores, plain: bytes) -> None:
    world.bring(stores, plain)
    with world.a_scope(stores) as scope:
        parsed = documents.parse(scope.document(target(stores, TAG)))
    assert not isinstance(parsed, Index)
    layer = parsed.layers[0].digest
    path = stores.content.files.blob_path(layer)
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DataLoss, match=layer):
        exported(stores, TAG)
    stores.content.delete(NAMESPACE, layer)
    with pytest.raises(NotFound, match="pull the image again"):
        exported(stores, TAG)


@pytest.mark.compat
@pytest.mark.skipif(not (shutil.which("umoci") and shutil.which("skopeo")), reason="no umoci or no skopeo")
def test_umoci_and_skopeo_read_what_was_exported(stores: Stores, plain: bytes, tmp_path: Path) -> None:
    world.bring(stores, plain)
    (tmp_path / "out.tar").write_bytes(exported(stores, TAG))
    for transport in ("oci-archive", "docker-archive"):
        command = ["skopeo", "inspect", "--raw", f"{transport}:{tmp_path}/out.tar"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    folder = tmp_path / "layout"
    folder.mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "out.tar", "-C", folder], check=True)
    command = ["umoci", "stat", "--image", f"{folder}:latest", "--json"]
    said = subprocess.run(command, capture_output=True, check=True)
    assert "history" in json.loads(said.stdout)
    with archive.opened(tmp_path / "out.tar") as source:
        assert source.images[0].name == TAG
