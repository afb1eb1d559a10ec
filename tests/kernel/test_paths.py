"""Untrusted paths below a held directory (architecture 7, R1)."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.kernel.paths import open_beneath, open_in_root


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/secret").write_text("inside")
    (tmp_path / "root/absolute").symlink_to("/secret")
    (tmp_path / "root/up").symlink_to("../secret")
    (tmp_path / "root/magic").symlink_to("/proc/self/root/etc/passwd")
    descriptor = os.open(tmp_path / "root", os.O_PATH)
    yield descriptor
    os.close(descriptor)


def read(descriptor: int) -> str:
    with open(descriptor) as file:
        return file.read()


@pytest.mark.parametrize("path", ["../secret", "absolute", "up", "/etc/passwd", "magic"])
def test_beneath_refuses_to_leave(root: int, path: str) -> None:
    with pytest.raises(OSError, match="openat2") as raised:
        open_beneath(root, path, os.O_RDONLY)
    assert raised.value.errno == errno.EXDEV
    assert raised.value.filename == path


@pytest.mark.parametrize("path", ["secret", "../secret", "absolute", "up", "/secret"])
def test_in_root_stays_inside(root: int, path: str) -> None:
    assert read(open_in_root(root, path, os.O_RDONLY)) == "inside"


def test_descriptors_are_closed_on_exec_and_files_can_be_made(root: int) -> None:
    descriptor = open_beneath(root, "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    assert not os.get_inheritable(descriptor)
    assert os.fstat(descriptor).st_mode & 0o777 == 0o640
    os.close(descriptor)


def test_folders_renamed_meanwhile_do_not_disturb(root: int, tmp_path: Path) -> None:
    """The kernel answers EAGAIN to `..` while folders move; that is retried, and never leads out."""
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/a/secret").write_text("inside")
    stop = threading.Event()

    def rename() -> None:
        while not stop.is_set():
            (tmp_path / "root/other").mkdir()
            (tmp_path / "root/other").rmdir()
            os.rename(tmp_path / "secret", tmp_path / "moved")
            os.rename(tmp_path / "moved", tmp_path / "secret")

    thread = threading.Thread(target=rename)
    thread.start()
    try:
        for _ in range(2000):
            assert read(open_in_root(root, "a/b/../../../../a/secret", os.O_RDONLY)) == "inside"
    finally:
        stop.set()
        thread.join()
