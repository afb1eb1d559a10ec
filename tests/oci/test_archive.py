import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from supervisor.errors import DataLoss, InvalidArgument, NotFound
from supervisor.oci import archive
from supervisor.oci import image as documents
from tests.images import TAG, busybox_docker_tar, busybox_oci_tar, tar_of


def write(path: Path, files: dict[str, bytes]) -> Path:
    members = []
    for name, content in files.items():
        member = tarfile.TarInfo(name)
        member.size = len(content)
        members.append(member)
    path.write_bytes(tar_of(members, files))
    return path


def read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_an_oci_layout_names_its_image_and_holds_its_blobs(tmp_path, compression, padding):
    path = busybox_oci_tar(tmp_path / "i.tar", compression=compression, padding=padding)
    with archive.opened(path) as source:
        (image,) = source.images
        assert image.name == TAG
        manifest = documents.parse_manifest(source.document(image.target), image.target.media_type)
        assert all(source.has(blob.digest) for blob in (manifest.config, *manifest.layers))
        assert len(source.open(manifest.layers[0].digest).read()) == manifest.layers[0].size


def test_what_the_index_says_of_an_image_stays_with_it(tmp_path):
    """So containerd keeps it, too, in the image's record."""
    with archive.opened(busybox_oci_tar(tmp_path / "i.tar")) as source:
        assert source.images[0].target.annotations[archive.NAME_ANNOTATION] == TAG
        assert source.index.digest.startswith("sha256:")
        listed = documents.parse_index(source.document(source.index))
        assert [entry.descriptor for entry in listed.entries] == [source.images[0].target]


def test_an_archive_may_be_compressed_as_a_whole(tmp_path):
    plain = busybox_oci_tar(tmp_path / "i.tar")
    packed = tmp_path / "i.tar.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes(), 1))
    with archive.opened(packed) as source:
        assert source.images[0].name == TAG


def test_a_docker_archive_becomes_a_manifest_that_is_the_same_each_time(tmp_path):
    path = busybox_docker_tar(tmp_path / "d.tar")
    with archive.opened(path) as first, archive.opened(path) as second:
        assert first.images == second.images
        manifest = documents.parse_manifest(first.document(first.images[0].target))
        assert first.images[0].target.media_type == documents.DOCKER_MANIFEST
        config = documents.parse_config(first.document(manifest.config))
        assert [layer.digest for layer in manifest.layers] == list(config.diff_ids)


def test_a_damaged_document_is_noticed(tmp_path):
    files = read(busybox_oci_tar(tmp_path / "i.tar"))
    name = next(name for name, content in files.items() if b'"layers": [{' in content)
    files[name] = files[name].replace(b'"size": ', b'"size":  ')
    with archive.opened(write(tmp_path / "bad.tar", files)) as source, pytest.raises(DataLoss):
        source.document(source.images[0].target)


def test_a_bare_tag_is_no_name(tmp_path):
    files = read(busybox_oci_tar(tmp_path / "i.tar"))
    index = json.loads(files["index.json"])
    index["manifests"][0]["annotations"] = {archive.REF_ANNOTATION: "latest"}
    files["index.json"] = json.dumps(index).encode()
    with archive.opened(write(tmp_path / "n.tar", files)) as source:
        assert source.images[0].name == ""


@pytest.mark.parametrize("files", [{}, {"hello": b"x"}, {"index.json": b"{}"}])
def test_other_tars_are_refused(tmp_path, files):
    with (
        pytest.raises(InvalidArgument, match="no image archive"),
        archive.opened(write(tmp_path / "x.tar", files)),
    ):
        pass


def test_what_is_no_tar_is_refused(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"hello" * 400)
    with pytest.raises(InvalidArgument, match=r"x\.tar"), archive.opened(path):
        pass


def test_a_missing_file_is_said_so(tmp_path):
    with pytest.raises(NotFound, match="no such file"), archive.opened(tmp_path / "none.tar"):
        pass


def test_links_in_an_archive_lead_nowhere(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("oci-layout", "index.json"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    path = tmp_path / "l.tar"
    path.write_bytes(buffer.getvalue())
    with pytest.raises((InvalidArgument, NotFound)), archive.opened(path):
        pass
