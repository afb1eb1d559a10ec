"""Layers applied: what must be there afterwards, and what the answer says."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from supervisor.errors import InvalidArgument, SupervisorError
from supervisor.model.mount import Mount
from supervisor.oci import image
from tests.diff.layers import Layers, archive, directory, link, member

pytestmark = pytest.mark.root


def test_the_answer_describes_the_whole_tar(layers: Layers) -> None:
    data = archive(member("a", b"text")) + b"trailing bytes"
    applied = layers.apply(gzip.compress(data), media_type=image.OCI_LAYER_GZIP)
    assert applied.media_type == image.OCI_LAYER
    assert applied.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert applied.size == len(data)
    assert (layers.upper / "a").read_bytes() == b"text"


def test_an_empty_blob_is_an_empty_layer(layers: Layers) -> None:
    assert layers.apply(b"", media_type=image.OCI_LAYER_GZIP).size == 0
    assert not any(layers.upper.iterdir())


def test_owners_modes_and_times(layers: Layers) -> None:
    layers.apply(
        archive(
            directory("d", mode=0o2750, uid=10, gid=20, mtime=2000),
            member("d/suid", b"x", mode=0o4755, uid=1000, gid=1001, pax_headers={"mtime": "5000.123456789"}),
            link("d/link", "suid"),
            member("d/root's", mode=0o640),
            member("old", mtime=-5, pax_headers={"atime": "77"}),
        )
    )
    found = (layers.upper / "d").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime) == (0o2750, 10, 20, 2000)
    suid = (layers.upper / "d/suid").stat()
    assert (stat.S_IMODE(suid.st_mode), suid.st_uid, suid.st_gid) == (0o4755, 1000, 1001)
    assert suid.st_mtime_ns == 5000123456789
    roots = (layers.upper / "d/root's").stat()
    assert (stat.S_IMODE(roots.st_mode), roots.st_uid, roots.st_gid) == (0o640, 0, 0), (
        "not the folder's group"
    )
    assert (layers.upper / "d/link").lstat().st_mtime == 1000
    old = (layers.upper / "old").stat()
    assert (old.st_mtime_ns, old.st_atime) == (0, 77)


def test_links_devices_and_fifos(layers: Layers) -> None:
    layers.apply(
        archive(
            member("a/file", b"same"),
            link("b", "/a/file", tarfile.LNKTYPE),
            link("s", "b"),
            link("hard-to-s", "s", tarfile.LNKTYPE),
            member("fifo", kind=tarfile.FIFOTYPE),
            member("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
            member("loop", kind=tarfile.BLKTYPE, devmajor=7, devminor=300),
        )
    )
    assert (layers.upper / "b").samefile(layers.upper / "a/file")
    assert (layers.upper / "hard-to-s").readlink() == Path("b")
    assert stat.S_ISFIFO((layers.upper / "fifo").stat().st_mode)
    assert (layers.upper / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISBLK((layers.upper / "loop").stat().st_mode)
    assert (layers.upper / "loop").stat().st_rdev == os.makedev(7, 300)


def test_xattrs(layers: Layers) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    records = {
        "SCHILY.xattr.user.kept": "value",
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.security.selinux": "dropped",
    }
    layers.apply(archive(member("f", b"x", uid=5, pax_headers=records)))
    path = layers.upper / "f"
    assert sorted(os.listxattr(path)) == ["security.capability", "user.kept"]
    assert os.getxattr(path, "user.kept") == b"value"
    assert os.getxattr(path, "security.capability") == capability


def test_what_is_there_is_replaced(layers: Layers) -> None:
    layers.apply(
        archive(member("x", b"1"), directory("d"), member("d/f"), directory("kept"), member("kept/f"))
    )
    layers.apply(
        archive(directory("x"), member("d", b"file"), directory("kept", mode=0o700), link("kept/f", "y"))
    )
    assert (layers.upper / "x").is_dir()
    assert (layers.upper / "d").read_bytes() == b"file"
    assert (layers.upper / "kept/f").is_symlink()
    assert stat.S_IMODE((layers.upper / "kept").stat().st_mode) == 0o700


def test_the_root_keeps_its_own_metadata(layers: Layers) -> None:
    layers.apply(archive(directory("./", mode=0o700, uid=5), directory("/"), member("./a")))
    assert layers.upper.stat().st_uid == 0
    assert (layers.upper / "a").exists()


@pytest.mark.parametrize("mode", ["bind", "overlay", "mounted"])
@pytest.mark.parametrize("order", [1, -1])
def test_whiteouts_below_what_is_a_file_now(layers: Layers, mode: str, order: int) -> None:
    """umoci writes them, in either order, when a directory became a file."""
    lower = layers.lower()
    (lower / "tmpfs").mkdir()
    (lower / "d").mkdir()
    (lower / "d/old").touch()
    entries = [member("d", b"file"), member("d/.wh.old"), member("d/.wh..wh..opq")]
    layers.apply(archive(*entries[::order]), getattr(layers, mode)())
    assert (layers.upper / "d").read_bytes() == b"file"
    assert [path.name for path in layers.upper.iterdir() if path.name != "tmpfs"] == ["d"]


@pytest.mark.parametrize("mode", ["bind", "mounted"])
def test_whiteouts_delete_in_a_tree_that_shows_lower_files(layers: Layers, mode: str) -> None:
    base = layers.lower() if mode == "mounted" else layers.upper
    (base / "gone/deep").mkdir(parents=True)
    (base / "gone/deep/f").touch()
    (base / "opaque/sub").mkdir(parents=True)
    (base / "opaque/old").touch()
    (base / "shared").mkdir()
    (base / "shared/old").touch()
    (base / "tmpfs").mkdir()
    layers.apply(
        archive(
            member(".wh.gone"),
            member(".wh.never-there"),
            member("opaque/new", b"n"),
            member("opaque/.wh..wh..opq"),
            member("opaque/later", b"n"),
            member("shared/new"),
            member(".wh.shared"),
        ),
        getattr(layers, mode)(),
    )
    if mode == "bind":
        assert sorted(p.name for p in base.iterdir()) == ["opaque", "shared", "tmpfs"]
        assert sorted(p.name for p in (base / "opaque").iterdir()) == ["later", "new"]
        assert sorted(p.name for p in (base / "shared").iterdir()) == ["new"]
    else:
        assert stat.S_ISCHR((layers.upper / "gone").lstat().st_mode)
        assert stat.S_ISCHR((layers.upper / "opaque/old").lstat().st_mode)
        assert (layers.upper / "opaque/later").read_bytes() == b"n"
        assert not any((layers.root / "tmpmounts").iterdir())
    assert str(layers.root) not in Path("/proc/self/mountinfo").read_text()


def test_overlay_marks(layers: Layers) -> None:
    layers.apply(
        archive(
            member(".wh.gone", uid=7, gid=8),
            directory("opaque"),
            member("opaque/.wh..wh..opq"),
            member("both/new"),
            member(".wh.both"),
            member(".wh.turned"),
            directory("turned"),
        ),
        layers.overlay(),
    )
    gone = (layers.upper / "gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert (gone.st_rdev, gone.st_uid, gone.st_gid) == (0, 7, 8)
    for name in ("opaque", "both", "turned"):
        assert os.getxattr(layers.upper / name, "trusted.overlay.opaque") == b"y", name
    assert not (layers.upper / "opaque/.wh..wh..opq").exists()


def test_missing_parents_take_after_the_lower_layers(layers: Layers) -> None:
    near, far = layers.lower("near"), layers.lower("far")
    (far / "a/b").mkdir(parents=True)
    (near / "a").mkdir()
    os.chown(near / "a", 11, 12)
    os.chmod(near / "a", 0o1777)
    os.setxattr(near / "a", "user.x", b"1")
    os.setxattr(near / "a", "trusted.overlay.opaque", b"y")
    os.utime(near / "a", (5, 6))
    os.chmod(far / "a/b", 0o710)
    layers.apply(archive(member("a/b/c/f")), layers.overlay())
    copied = (layers.upper / "a").stat()
    assert (stat.S_IMODE(copied.st_mode), copied.st_uid, copied.st_gid, copied.st_mtime) == (
        0o1777,
        11,
        12,
        6,
    )
    assert os.listxattr(layers.upper / "a") == ["user.x"]
    assert stat.S_IMODE((layers.upper / "a/b").stat().st_mode) == 0o710
    assert stat.S_IMODE((layers.upper / "a/b/c").stat().st_mode) == 0o755


def test_an_overlay_with_nothing_but_an_upper_is_not_mounted(layers: Layers) -> None:
    layers.apply(archive(member("f")), [Mount("overlay", "overlay", ("rw", f"upperdir={layers.upper}"))])
    assert (layers.upper / "f").exists()


@pytest.mark.parametrize("name", ["", "x86_64"])
def test_links_on_the_way_are_resolved_inside(layers: Layers, name: str) -> None:
    members = [
        link("lib", "usr/lib"),
        link("abs", "/usr/../usr"),
        member("lib/a", b"1"),
        member("abs/lib/b", b"2"),
    ]
    layers.apply(archive(*members))
    assert sorted(p.name for p in (layers.upper / "usr/lib").iterdir()) == ["a", "b"]


def test_sparse_files_of_gnu_tar(layers: Layers, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        for place in range(200):
            file.seek(place * 65536)
            file.write(bytes([place + 1]) * 5000)
        file.truncate(20_000_000)
    (source / "empty").touch()
    os.truncate(source / "empty", 1_000_000)
    wanted = {name: hashlib.sha256((source / name).read_bytes()).digest() for name in ("sparse", "empty")}
    forms = (
        ["gnu"],
        ["pax", "--sparse-version=0.0"],
        ["pax", "--sparse-version=0.1"],
        ["pax", "--sparse-version=1.0"],
    )
    for number, (form, *options) in enumerate(forms):
        into = f"form{number}"
        command = [
            "tar",
            "-C",
            str(source),
            f"--format={form}",
            *options,
            f"--transform=s,^,{into}/,",
            "-cSf",
            "-",
            ".",
        ]
        made = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        assert len(made) < 3_000_000
        layers.apply(made)
        for name, digest in wanted.items():
            path = layers.upper / into / name
            assert hashlib.sha256(path.read_bytes()).digest() == digest, (form, options, name)
            assert path.stat().st_blocks * 512 < 4_000_000


@pytest.mark.parametrize(
    ("media_type", "encode"),
    [
        (image.OCI_LAYER_GZIP, gzip.compress),
        (image.OCI_LAYER_GZIP, zstandard.compress),
        (image.OCI_LAYER_GZIP, bytes),
        (image.OCI_LAYER_ZSTD, zstandard.compress),
        (image.DOCKER_LAYER, gzip.compress),
        (image.DOCKER_LAYER_GZIP, bytes),
        (image.OCI_LAYER, bytes),
    ],
)
def test_media_types_and_compressions(layers: Layers, media_type: str, encode: object) -> None:
    data = archive(member("f", b"x" * 100_000))
    layers.apply(encode(data), media_type=media_type)  # type: ignore[operator]
    assert (layers.upper / "f").stat().st_size == 100_000


def test_members_and_a_tar_without_an_end(layers: Layers) -> None:
    data = archive(member("f", b"x" * 100_000))
    data = data[: 512 + 100_000]
    several = b"".join(gzip.compress(data[place : place + 10_000]) for place in range(0, len(data), 10_000))
    layers.apply(several, media_type=image.OCI_LAYER_GZIP)
    assert (layers.upper / "f").read_bytes() == b"x" * 100_000


@pytest.mark.parametrize("media_type", ["", "text/plain", image.OCI_LAYER + "+encrypted", image.OCI_MANIFEST])
def test_a_type_that_is_no_layer(layers: Layers, media_type: str) -> None:
    with pytest.raises(SupervisorError, match="no processor for media-type") as caught:
        layers.apply(b"", media_type=media_type)
    assert caught.value.code == 2


def test_gzip_under_a_plain_type_fails(layers: Layers) -> None:
    with pytest.raises(SupervisorError, match="tar"):
        layers.apply(gzip.compress(archive(member("f"))), media_type=image.OCI_LAYER)


def test_no_mounts(layers: Layers) -> None:
    with pytest.raises(InvalidArgument, match="mounts"):
        layers.apply(b"", [])


def test_a_mount_that_fails(layers: Layers) -> None:
    with pytest.raises(SupervisorError, match="no-such-filesystem"):
        layers.apply(b"", [Mount("no-such-filesystem", "none")])
    assert not any((layers.root / "tmpmounts").iterdir())


def test_a_large_layer_of_every_format(layers: Layers) -> None:
    deep = "/".join(["directory-with-a-long-name"] * 12)
    members = [directory("sub")] + [
        member(f"sub/{n}", bytes([n % 256]) * (n * 37 % 3000)) for n in range(600)
    ]
    for dialect in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        long = [] if dialect == tarfile.USTAR_FORMAT else [member(f"{deep}/f", b"deep"), link("l", deep)]
        layers.apply(archive(*members, *long, dialect=dialect))
        for info, data in members[1:]:
            assert (layers.upper / info.name).read_bytes() == data
    assert (layers.upper / deep / "f").read_bytes() == b"deep"
    assert os.readlink(layers.upper / "l") == deep
