"""Whole trees copied and removed."""

import os
import stat
from pathlib import Path

import pytest

from supervisor.kernel.mounts import mounted
from supervisor.kernel.trees import copy_tree, remove_contents
from supervisor.model.mount import Mount


@pytest.mark.root
def test_a_copy_keeps_what_the_tree_is(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    (source / "sub").mkdir(parents=True)
    copy.mkdir()
    (source / "file").write_bytes(b"content")
    os.link(source / "file", source / "sub/again")
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo")
    os.mknod(source / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.setxattr(source / "file", "user.colour", b"blue")
    os.chown(source / "link", 12, 13, follow_symlinks=False)
    (source / "file").chmod(0o4751)
    with (source / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"middle")
    os.utime(source / "sub", ns=(1_000_000_001, 2_000_000_002))

    copy_tree(source, copy)

    assert (copy / "file").read_bytes() == b"content"
    assert stat.S_IMODE((copy / "file").stat().st_mode) == 0o4751
    assert os.getxattr(copy / "file", "user.colour") == b"blue"
    assert (copy / "sub/again").stat().st_ino == (copy / "file").stat().st_ino
    assert os.readlink(copy / "link") == "/etc/passwd"
    assert os.lstat(copy / "link").st_uid == 12
    assert stat.S_ISFIFO((copy / "fifo").stat().st_mode)
    assert os.lstat(copy / "device").st_rdev == os.makedev(1, 3)
    assert (copy / "sub").stat().st_mtime_ns == 2_000_000_002
    sparse = (copy / "sparse").stat()
    assert (sparse.st_size, sparse.st_blocks * 512 < 1 << 20) == (1 << 30, True)
    with (copy / "sparse").open("rb") as file:
        file.seek(1 << 29)
        assert file.read(6) == b"middle"


def test_removal_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").touch()
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "sub/link").symlink_to(tmp_path / "outside")
    (folder / "~1").mkdir()
    remove_contents(folder)
    assert os.listdir(folder) == []
    assert os.listdir(tmp_path / "outside") == ["kept"]


@pytest.mark.root
def test_removal_refuses_while_something_is_mounted_inside(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with mounted([Mount("tmpfs", "t")], folder) as root:
        (root / "precious").touch()
        with pytest.raises(OSError, match="mounted inside"):
            remove_contents(folder)
        assert (root / "precious").exists()
