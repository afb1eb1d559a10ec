"""Layers made of two trees: what stands in them, and that applying one gives the other tree again."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import socket
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.diff.compare import Comparison, Packed, compare
from supervisor.diff.comparing import read_only
from supervisor.errors import SupervisorError, Unimplemented
from supervisor.model.instant import Nanoseconds
from supervisor.model.mount import Mount
from supervisor.oci import image
from tests.diff.layers import Layers

pytestmark = pytest.mark.root


def bind(path: Path) -> list[Mount]:
    return [Mount("bind", str(path), ("rw", "rbind"))]


class Trees:
    """Two folders to compare."""

    def __init__(self, root: Path) -> None:
        self.root, self.left, self.right = root, root / "left", root / "right"
        self.left.mkdir()
        self.right.mkdir()

    def copy(self) -> None:
        """Make the right tree what the left one is, so that a test can change it."""
        shutil.rmtree(self.right)
        shutil.copytree(self.left, self.right, symlinks=True)

    def pack(
        self, media_type: str = image.OCI_LAYER, *, empty_left: bool = False, latest: int | None = None
    ) -> bytes:
        out = io.BytesIO()
        left = [] if empty_left else bind(self.left)
        bound = None if latest is None else Nanoseconds(latest)
        self.packed: Packed = compare(
            Comparison(left, bind(self.right), media_type, bound), out.write, tmp_root=self.root / "tmp"
        )
        assert not any((self.root / "tmp").iterdir())
        return out.getvalue()

    def entries(self, **more: bool) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(fileobj=io.BytesIO(self.pack(**more))) as tar:
            return {member.name: member for member in tar}


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


def test_changes_in_the_order_of_paths(trees: Trees) -> None:
    for name in ("a-b/f", "a/gone/x", "a/kept", "a/changed"):
        path = trees.left / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    trees.copy()
    shutil.rmtree(trees.right / "a/gone")
    (trees.right / "a/changed").write_text("22")
    (trees.right / "a/new").mkdir()
    (trees.right / "a/new/f").touch()
    (trees.right / "a-b/f").chmod(0o600)
    assert list(trees.entries()) == ["a", "a/changed", "a/.wh.gone", "a/new", "a/new/f", "a-b", "a-b/f"]
    whiteout = trees.entries()["a/.wh.gone"]
    assert (whiteout.mode, whiteout.size, whiteout.mtime, whiteout.isreg()) == (0, 0, 0, True)


def test_an_unchanged_tree_gives_an_empty_layer(trees: Trees) -> None:
    (trees.left / "d").mkdir()
    (trees.left / "d/f").write_text("x")
    trees.copy()
    assert trees.pack() == bytes(1024)


def test_everything_is_new_without_a_left_tree(trees: Trees) -> None:
    (trees.right / "f").write_text("x")
    os.chown(trees.right / "f", 4_000_000, 5)
    (trees.right / "f").chmod(0o4755)
    os.mkfifo(trees.right / "p")
    os.mknod(trees.right / "c", 0o20600, os.makedev(1, 3))
    (trees.right / ("ü" * 80)).symlink_to("l" * 150)
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(trees.right, os.O_PATH)
        listening.bind(f"/proc/self/fd/{here}/s")
        os.close(here)
    found = trees.entries(empty_left=True)
    assert sorted(found) == ["c", "f", "p", "ü" * 80]
    assert (found["f"].uid, found["f"].mode, found["f"].uname) == (4_000_000, 0o4755, "")
    assert (found["c"].devmajor, found["c"].devminor) == (1, 3)
    assert found["ü" * 80].linkname == "l" * 150


def test_hard_links(trees: Trees) -> None:
    (trees.left / "a-old").write_text("x")
    trees.copy()
    os.link(trees.right / "a-old", trees.right / "b-new")
    (trees.right / "c").write_text("y")
    os.link(trees.right / "c", trees.right / "d")
    found = trees.entries()
    assert list(found) == ["b-new", "a-old", "c", "d"]
    assert (found["a-old"].linkname, found["d"].linkname) == ("b-new", "c")
    assert found["a-old"].islnk()
    assert found["b-new"].isreg()


def test_only_capabilities_are_kept_of_xattrs(trees: Trees) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    (trees.left / "f").touch()
    trees.copy()
    os.utime(trees.right / "f", ns=(0, (trees.left / "f").stat().st_mtime_ns))
    os.setxattr(trees.right / "f", "user.lost", b"x")
    assert list(trees.entries()) == []
    os.setxattr(trees.right / "f", "security.capability", capability)
    assert list(trees.entries()["f"].pax_headers) == ["SCHILY.xattr.security.capability"]


def test_times(trees: Trees) -> None:
    for name, left, right in (("same", 5, 5), ("second", 5, 6), ("nano", 5.25, 5.5)):
        for root, time in ((trees.left, left), (trees.right, right)):
            (root / name).write_text("x")
            os.utime(root / name, (time, time))
    assert sorted(trees.entries()) == ["nano", "second"]
    (trees.right / "same").write_text("y")
    os.utime(trees.right / "same", (5, 5))
    assert sorted(trees.entries()) == ["nano", "same", "second"]
    with tarfile.open(fileobj=io.BytesIO(trees.pack(latest=5 * 10**9))) as tar:
        assert {member.mtime for member in tar} == {5}


def test_a_directory_that_becomes_a_file_and_the_reverse(trees: Trees) -> None:
    (trees.left / "d").mkdir()
    (trees.left / "d/x").touch()
    (trees.left / "f").touch()
    (trees.right / "d").touch()
    (trees.right / "f").mkdir()
    (trees.right / "f/y").touch()
    assert list(trees.entries()) == ["d", "f", "f/y"]


@pytest.mark.parametrize("media_type", ["", image.OCI_LAYER_GZIP, image.OCI_LAYER_ZSTD])
def test_the_same_difference_gives_the_same_blob(trees: Trees, media_type: str) -> None:
    (trees.right / "f").write_bytes(bytes(3_000_000))
    first = trees.pack(media_type)
    assert trees.packed.media_type == media_type or image.OCI_LAYER_GZIP
    assert trees.packed.size == len(first) < 100_000
    assert first == trees.pack(media_type)
    if media_type != image.OCI_LAYER_ZSTD:
        assert gzip.decompress(first) == trees.pack(image.OCI_LAYER)
        assert trees.packed.uncompressed is None


def test_a_type_that_is_only_read(trees: Trees) -> None:
    with pytest.raises(Unimplemented):
        trees.pack(image.DOCKER_LAYER_GZIP)


def test_mounts_that_fail(trees: Trees) -> None:
    shutil.rmtree(trees.right)
    with pytest.raises(SupervisorError, match="right"):
        trees.pack()
    assert not any((trees.root / "tmp").iterdir())


def test_the_right_side_cannot_be_written_to() -> None:
    overlay = Mount("overlay", "overlay", ("index=off", "workdir=/w", "upperdir=/u", "lowerdir=/a:/b"))
    assert read_only([overlay]) == [Mount("overlay", "overlay", ("lowerdir=/u:/a:/b", "index=off"))]
    alone = Mount("overlay", "overlay", ("rw", "upperdir=/u"))
    assert read_only([alone]) == [Mount("bind", "/u", ("ro", "rbind"))]
    assert read_only(bind(Path("/x"))) == [Mount("bind", "/x", ("rbind", "ro"))]


def test_an_overlay_against_its_lower_layer(layers: Layers) -> None:
    lower = layers.lower()
    (lower / "gone").write_text("x")
    (lower / "kept").write_text("x")
    (lower / "tmpfs").mkdir()
    os.mknod(layers.upper / "gone", 0o20000, 0)
    (layers.upper / "new").write_text("y")
    out = io.BytesIO()
    asked = Comparison(bind(lower), layers.overlay(), image.OCI_LAYER)
    compare(asked, out.write, tmp_root=layers.root / "tmp")
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert tar.getnames() == [".wh.gone", "new"]


NAMES = st.sampled_from(["a", "b", "a/c", "a/d", "b/c", "b/c/e", "a-f", "long" * 30])
FILES = st.dictionaries(NAMES, st.sampled_from(["file", "other", "link", "dir", "fifo"]), max_size=7)


def fill(root: Path, files: dict[str, str]) -> None:
    for name, kind in sorted(files.items()):
        path = root / name
        if not path.parent.is_dir() or path.parent.is_symlink():
            continue
        if kind == "link":
            path.symlink_to("a")
        elif kind == "dir":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.write_text(kind)
        os.utime(path, (1000, 1000), follow_symlinks=False)


def told(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        text = path.read_text() if path.is_file() and not path.is_symlink() else None
        found[str(path.relative_to(root))] = (
            status.st_mode,
            text,
            os.readlink(path) if path.is_symlink() else None,
        )
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES, FILES)
def test_a_layer_applied_to_the_left_tree_gives_the_right_one(
    trees: Trees, left: dict[str, str], right: dict[str, str]
) -> None:
    for root, files in ((trees.left, left), (trees.right, right)):
        shutil.rmtree(root)
        root.mkdir()
        fill(root, files)
    Layers(trees.root).apply(trees.pack(), bind(trees.left))
    assert told(trees.left) == told(trees.right)
