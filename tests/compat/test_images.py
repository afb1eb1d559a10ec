"""`ctr images`: what it imports, shows, checks, tags, mounts and removes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.ctr import Ctr
from tests.compat.target import is_mounted
from tests.images import HOST, TAG, busybox_docker_tar, busybox_oci_tar

FOREIGN = "linux/s390x"


def ready(ctr: Ctr) -> list[str]:
    """The images of which everything is here and unpacked."""
    return ctr.out("images", "check", "-q").split()


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
@pytest.mark.parametrize("padding", [True, False], ids=["padded", "unpadded"])
@pytest.mark.parametrize("members", [False, True], ids=["one-member", "members"])
def test_import_unpacks_gzip_layers(
    ctr: Ctr, tmp_path: Path, snapshotter: str, padding: bool, members: bool
) -> None:
    tar = busybox_oci_tar(tmp_path / "image.tar", padding=padding, multi_member=members)
    ctr.run("images", "import", "--snapshotter", snapshotter, str(tar))
    assert ctr.out("images", "check", "--snapshotter", snapshotter, "-q").split() == [TAG]
    told = ctr.out("run", "--rm", "--snapshotter", snapshotter, TAG, "c", "cat", "/etc/changed", "/etc/added")
    assert told == "above\nadded\n"


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_import_unpacks_other_layers(ctr: Ctr, tmp_path: Path, compression: str) -> None:
    ctr.run("images", "import", str(busybox_oci_tar(tmp_path / "image.tar", compression=compression)))
    assert ctr.run("run", "--rm", TAG, "c", "test", "-e", "/etc/removed", check=False).returncode == 1


def test_import_takes_the_host_out_of_an_index(ctr: Ctr, tmp_path: Path) -> None:
    ctr.run("images", "import", str(busybox_oci_tar(tmp_path / "image.tar", platforms=[FOREIGN, HOST])))
    (row,) = ctr.table("images", "ls")
    assert row[:2] == [TAG, "application/vnd.oci.image.index.v1+json"]
    assert HOST in " ".join(row)
    assert ready(ctr) == [TAG]
    assert ctr.out("run", "--rm", TAG, "c", "echo", "hello") == "hello\n"


def test_import_can_keep_all_platforms(ctr: Ctr, tmp_path: Path) -> None:
    tar = busybox_oci_tar(tmp_path / "image.tar", platforms=[HOST, FOREIGN])
    ctr.run("images", "import", "--all-platforms", "--no-unpack", str(tar))
    (row,) = ctr.table("images", "ls")
    assert {HOST, FOREIGN} <= set(row[5].split(","))


def test_import_takes_what_docker_saved(ctr: Ctr, tmp_path: Path) -> None:
    ctr.run("images", "import", str(busybox_docker_tar(tmp_path / "image.tar")))
    assert ctr.out("run", "--rm", TAG, "c", "cat", "/etc/changed") == "above\n"


def test_import_of_a_truncated_archive_fails(ctr: Ctr, tmp_path: Path, image_tar: Path) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(image_tar.read_bytes()[:300_000])
    ctr.fails("images", "import", str(cut))
    assert ctr.table("images", "ls") == []


def test_list_shows_type_digest_size_and_platform(ctr: Ctr, image: str) -> None:
    (row,) = ctr.table("images", "ls")
    assert row[0] == image
    assert row[1] == "application/vnd.oci.image.manifest.v1+json"
    assert row[2].startswith("sha256:")
    assert row[4] == "MiB"
    assert row[5] == HOST
    assert ctr.out("images", "ls", "-q", f"name=={image}").split() == [image]
    assert ctr.out("images", "ls", "-q", "name==other").split() == []


def test_check_tells_complete_from_unpacked(ctr: Ctr, image_tar: Path) -> None:
    ctr.run("images", "import", "--no-unpack", str(image_tar))
    (row,) = ctr.table("images", "check")
    assert "complete" in row
    assert row[-1] == "false"


def test_tag_and_remove(ctr: Ctr, image: str) -> None:
    ctr.run("images", "tag", image, "example.org/other:1")
    assert "already exists" in ctr.fails("images", "tag", image, "example.org/other:1")
    ctr.run("images", "tag", "--force", image, "example.org/other:1")
    assert sorted(ctr.out("images", "ls", "-q").split()) == [image, "example.org/other:1"]
    ctr.run("images", "rm", image)
    assert ctr.out("images", "ls", "-q").split() == ["example.org/other:1"]
    assert ctr.out("run", "--rm", "example.org/other:1", "c", "echo", "still") == "still\n"


def test_label(ctr: Ctr, image: str) -> None:
    ctr.run("images", "label", image, "colour=blue")
    assert ctr.table("images", "ls", "labels.colour==blue")[0][-1] == "colour=blue"
    ctr.run("images", "label", image, "colour=")
    assert ctr.table("images", "ls", "labels.colour==blue") == []


def test_unknown_image_is_named(ctr: Ctr) -> None:
    assert 'image "nowhere:1": not found' in ctr.fails("run", "--rm", "nowhere:1", "c")
    assert "not found" in ctr.fails("images", "tag", "nowhere:1", "x:1")


@pytest.fixture
def mountpoint(ctr: Ctr, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "mnt"
    place.mkdir()
    yield place
    if is_mounted(place):
        subprocess.run(["umount", place], check=True)


def test_mount_shows_the_files_and_unmount_ends_it(ctr: Ctr, image: str, mountpoint: Path) -> None:
    ctr.run("images", "mount", image, str(mountpoint))
    assert (mountpoint / "etc/changed").read_text() == "above\n"
    assert not (mountpoint / "etc/removed").exists()
    with pytest.raises(OSError, match="Read-only file system"):
        (mountpoint / "new").write_text("no")
    ctr.run("images", "unmount", "--rm", str(mountpoint))
    assert not is_mounted(mountpoint)
    assert str(mountpoint) not in ctr.out("snapshots", "ls")


def test_mount_can_be_writable_without_changing_the_image(ctr: Ctr, image: str, mountpoint: Path) -> None:
    ctr.run("images", "mount", "--rw", image, str(mountpoint))
    (mountpoint / "new").write_text("yes")
    ctr.run("images", "unmount", "--rm", str(mountpoint))
    assert ctr.run("run", "--rm", image, "c", "test", "-e", "/new", check=False).returncode == 1


def test_export_imports_again(ctr: Ctr, image: str, tmp_path: Path) -> None:
    exported = tmp_path / "exported.tar"
    ctr.run("images", "export", str(exported), image)
    ctr.run("images", "rm", image)
    ctr.run("images", "import", str(exported))
    assert ctr.out("images", "ls", "-q").split() == [image]
