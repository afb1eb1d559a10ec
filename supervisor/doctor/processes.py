"""What /proc tells of processes, to whoever asks; what may not be read or is gone is empty."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
UNLIMITED = 1 << 63


def pids(proc: Path = PROC) -> Iterator[int]:
    """The processes that there are."""
    return (int(folder.name) for folder in proc.glob("[0-9]*"))


def command_of(pid: int, proc: Path = PROC) -> str:
    """A process's command line, words set apart by blanks."""
    return _read(proc / str(pid) / "cmdline").replace("\0", " ").strip()


def environment_of(pid: int, proc: Path = PROC) -> dict[str, str]:
    """The environment that a process was started with; for its user and root only."""
    pairs = (entry.partition("=") for entry in _read(proc / str(pid) / "environ").split("\0"))
    return {name: value for name, _, value in pairs if name}


def status_of(pid: int, proc: Path = PROC) -> dict[str, str]:
    """The fields of a process's status."""
    lines = (line.partition(":") for line in _read(proc / str(pid) / "status").splitlines())
    return {name: value.strip() for name, _, value in lines}


def capabilities_of(pid: int, proc: Path = PROC) -> int:
    """The effective capabilities of a process, a bit for each."""
    return int(status_of(pid, proc).get("CapEff", "0"), 16)


def open_files_limit(pid: int, proc: Path = PROC) -> tuple[int, int]:
    """How many descriptors a process may have: as it is, and as high as it may go."""
    for line in _read(proc / str(pid) / "limits").splitlines():
        if line.startswith("Max open files"):
            soft, hard = line.split()[3:5]
            return _count(soft), _count(hard)
    raise PermissionError(1, "not permitted", f"/proc/{pid}/limits")


def lock_holder(lock: Path, table: Path = PROC / "locks") -> int | None:
    """The process that holds a lock file, None when nobody does.

    Asked of the kernel's table: who tried the lock would hold it for a moment, and stop a daemon that starts.
    """
    try:
        status = os.stat(lock)
    except (FileNotFoundError, NotADirectoryError):
        return None
    for line in table.read_text().splitlines():
        words = line.split()
        # 1: FLOCK  ADVISORY  WRITE 5773 fe:00:15343628 0 EOF
        if words[1] == "FLOCK" and words[3] == "WRITE" and _is_file(words[5], status):
            return int(words[4])
    return None


def openers_of(path: Path, proc: Path = PROC) -> set[int]:
    """The processes that have a file open, of those whose descriptors may be read."""
    wanted = os.path.realpath(path)
    found = set()
    for pid in pids(proc):
        if wanted in _descriptors(proc / str(pid) / "fd"):
            found.add(pid)
    return found


def sockets_of(pid: int, proc: Path = PROC) -> set[str]:
    """The inodes of a process's sockets."""
    links = _descriptors(proc / str(pid) / "fd")
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def listeners(proc: Path = PROC) -> dict[str, str]:
    """The unix sockets that are listened at: path by inode (/proc/net/unix)."""
    found = {}
    for line in _read(proc / "net/unix").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & 0x10000:  # __SO_ACCEPTCON
            found[fields[6]] = fields[7]
    return found


def _is_file(identity: str, status: os.stat_result) -> bool:
    """Whether `major:minor:inode` is a file; some filesystems show the table another device than stat."""
    major, minor, inode = identity.split(":")
    same_device = os.makedev(int(major, 16), int(minor, 16)) == status.st_dev
    return inode == str(status.st_ino) and (same_device or os.major(status.st_dev) == 0)


def _descriptors(folder: Path) -> set[str]:
    """What the descriptors in /proc/PID/fd refer to."""
    try:
        names = os.listdir(folder)
    except OSError:  # ended meanwhile, or another user's
        return set()
    found = set()
    for name in names:
        with suppress(OSError):  # closed meanwhile, or of a process that is nobody else's to see
            found.add(os.readlink(folder / name))
    return found


def _count(word: str) -> int:
    return UNLIMITED if word == "unlimited" else int(word)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
