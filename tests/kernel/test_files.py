"""Files made durable, locks, and measuring."""

import os
import stat
from pathlib import Path

import pytest

from supervisor.kernel.files import locked, sync_filesystem, write_durably
from supervisor.kernel.trees import remove_contents
from supervisor.kernel.usage import disk_usage


def test_write_replaces_with_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_durably(path, b"old")
    write_durably(path, b"new", 0o644)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["f"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(IsADirectoryError):
        write_durably(tmp_path / "f", b"x")
    assert os.listdir(tmp_path) == ["f"]


def test_the_lock_is_held_by_one_and_names_it(tmp_path: Path) -> None:
    refused = pytest.raises(BlockingIOError, match=f"process {os.getpid()}")
    with locked(tmp_path / "lock"), refused, locked(tmp_path / "lock"):
        pass
    with locked(tmp_path / "lock"):
        pass


def test_sync_of_a_missing_folder_names_it(tmp_path: Path) -> None:
    sync_filesystem(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        sync_filesystem(tmp_path / "missing")


def test_each_inode_counts_once_and_links_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").write_bytes(b"x" * 100_000)
    empty = disk_usage(root)
    (root / "a").write_bytes(b"x" * 10_000)
    os.link(root / "a", root / "b")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "sub").mkdir()
    measured = disk_usage(root)
    assert measured.inodes == empty.inodes + 3
    assert 10_000 <= measured.size - empty.size < 100_000


def test_holes_take_no_space(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert disk_usage(tmp_path).size < 1 << 20


def nest(folder: Path, name: str, depth: int) -> None:
    held = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=held)
        below = os.open(name, os.O_RDONLY, dir_fd=held)
        os.close(held)
        held = below
    os.close(held)


def test_trees_deeper_than_any_path_are_measured(tmp_path: Path) -> None:
    nest(tmp_path, "deep", 3000)
    try:
        assert disk_usage(tmp_path).inodes == 3001
    finally:
        remove_contents(tmp_path)


def test_depth_has_a_bound_that_is_an_error(tmp_path: Path) -> None:
    nest(tmp_path, "n" * 250, 600)
    try:
        with pytest.raises(OSError, match="too deeply"):
            disk_usage(tmp_path)
    finally:
        remove_contents(tmp_path)
