"""What /proc tells, of prepared text and of this process."""

import os
import socket
from pathlib import Path

import pytest

from supervisor.doctor import processes
from supervisor.kernel.files import locked


def test_the_holder_of_a_lock_is_known_without_trying_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert processes.lock_holder(lock) is None
    with locked(lock):
        assert processes.lock_holder(lock) == os.getpid()
    assert processes.lock_holder(lock) is None


def test_locks_of_other_files_and_kinds_and_those_who_wait_do_not_count(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    status = lock.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    table = tmp_path / "locks"
    table.write_text(
        f"1: POSIX  ADVISORY  WRITE 11 {device}:{status.st_ino} 0 EOF\n"
        f"2: FLOCK  ADVISORY  READ 12 {device}:{status.st_ino} 0 EOF\n"
        f"3: FLOCK  ADVISORY  WRITE 13 {device}:{status.st_ino + 1} 0 EOF\n"
        f"3: -> FLOCK  ADVISORY  WRITE 14 {device}:{status.st_ino} 0 EOF\n"
    )
    assert processes.lock_holder(lock, table) is None
    with table.open("a") as more:
        more.write(f"4: FLOCK  ADVISORY  WRITE 15 {device}:{status.st_ino} 0 EOF\n")
    assert processes.lock_holder(lock, table) == 15


def test_who_has_a_file_open(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with (tmp_path / "file").open("w"):
        assert os.getpid() in processes.openers_of(tmp_path / "link")
    assert processes.openers_of(tmp_path / "file") == set()


def test_who_listens_where(tmp_path: Path) -> None:
    path = tmp_path / "a socket"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(str(path))
        assert str(path) not in processes.listeners().values()
        listener.listen()
        caller.connect(str(path))
        heard = processes.listeners()
        mine = processes.sockets_of(os.getpid())
        assert [heard[inode] for inode in heard.keys() & mine if heard[inode] == str(path)] == [str(path)]


def test_limits_and_the_rest_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/limits").write_text(
        "Limit                     Soft Limit           Hard Limit           Units\n"
        "Max open files            1024                 unlimited            files\n"
    )
    (tmp_path / "7/environ").write_bytes(b"PATH=/a:/b\0X=y=z\0")
    (tmp_path / "7/cmdline").write_bytes(b"shim\0-id\0one\0")
    assert processes.open_files_limit(7, tmp_path) == (1024, processes.UNLIMITED)
    assert processes.environment_of(7, tmp_path) == {"PATH": "/a:/b", "X": "y=z"}
    assert processes.command_of(7, tmp_path) == "shim -id one"
    assert list(processes.pids(tmp_path)) == [7]
    with pytest.raises(PermissionError):
        processes.open_files_limit(8, tmp_path)
