"""Where the output of detached containers is kept, and reading it (`run -d`, `logs`, `rm`).

The shim writes it, in files that are rotated; the container's label names the one in use, so that
every client finds it. The daemon has no part in it, and so the log goes on whatever happens to the
daemon.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from supervisor.cli.log_window import EVERYTHING, Part, Wanted, restrict
from supervisor.client.client import Client
from supervisor.client.containers import Container
from supervisor.errors import NotFound, SupervisorError
from supervisor.model.log_index import SUFFIX

LABEL = "container-supervisor/log"
FALLBACK_ROOT = "/var/lib/container-supervisor"
PIECE_BYTES = 64 << 10

# Other shims than ours ignore this, and append to one file.
ROTATE_SIZE = "10m"
ROTATED_FILES = 5


async def place(client: Client, container_id: str, directory: str | None) -> Path:
    """The log of a new container: below `directory`, by default below the daemon's root."""
    root = Path(directory) if directory else Path(await client.introspection.root() or FALLBACK_ROOT) / "logs"
    return root.absolute() / client.namespace / f"{container_id}.log"


def prepare(path: Path) -> str:
    """Make the empty log, readable by its owner only, and return the URI that a task writes to."""
    path.parent.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)
    return f"file://{quote(str(path))}?rotate-size={ROTATE_SIZE}&rotate-count={ROTATED_FILES}"


def of(container: Container) -> Path:
    """The log of a container; raises NotFound when it keeps none."""
    path = container.labels.get(LABEL)
    if not path:
        raise NotFound(
            f"log of container {container.id}: it keeps none, since it was not started with `run -d`"
        )
    return Path(path)


def remove(namespace: str, container_id: str, path: Path) -> None:
    """Remove a log and the folders that it leaves empty.

    The label is a wish of whoever made the container: only what looks like its own log is touched.
    """
    if path.name != f"{container_id}.log" or path.parent.name != namespace:
        return
    for file in (path, *(_rotated(path, number) for number in range(1, ROTATED_FILES))):
        file.unlink(missing_ok=True)
        file.with_name(file.name + SUFFIX).unlink(missing_ok=True)
    with suppress(OSError):  # other logs are in there
        path.parent.rmdir()
        path.parent.parent.rmdir()


class Reader:
    """Reads what is wanted of a log that is rotated meanwhile: every byte once, from the oldest file."""

    def __init__(self, path: Path, wanted: Wanted = EVERYTHING) -> None:
        """Open the log; raises NotFound when there is none, FailedPrecondition when it has no times."""
        self._path = path
        self._bound = wanted if wanted.is_over else None
        parts = _parts(path)
        files = [part.file for part in parts]
        try:
            restrict(parts, wanted)
        except SupervisorError:
            _close(files)
            raise
        self._left = _length(parts) if self._bound else None
        # What is read is followed by what comes later, so the last file counts where nothing is wanted yet.
        first = next((number for number, part in enumerate(parts) if part.end > part.begin), len(parts) - 1)
        self._file = _kept(files, first)
        self._file.seek(parts[first].begin)

    def read(self) -> bytes:
        """The next piece; empty when there is none yet. Raises NotFound when the log was removed."""
        data = self._read()
        if data or self._left == 0:
            return data
        files = _open(self._path)
        own = _inode(self._file)
        # A file that is no longer kept is followed by the oldest of those that are.
        following = next((number + 1 for number, file in enumerate(files) if _inode(file) == own), 0)
        # What was written between the read and a rotation comes first.
        data = self._read()
        if data or following == len(files):
            _close(files)
            return data
        self._file.close()
        self._file = _kept(files, following)
        if self._bound and not following:
            self._left = self._count_anew(self._bound)
        return self._read()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _count_anew(self, wanted: Wanted) -> int:
        """How much of the files that are there is wanted, now that some are gone that were counted."""
        parts = _parts(self._path)
        try:
            restrict(parts, Wanted(until=wanted.until))
            return _length(parts)
        finally:
            _close(part.file for part in parts)

    def _read(self) -> bytes:
        data = self._file.read(PIECE_BYTES if self._left is None else min(PIECE_BYTES, self._left))
        if self._left is not None:
            self._left -= len(data)
        return data


def _parts(path: Path) -> list[Part]:
    """A log's files with their indexes, the oldest first."""
    while True:
        files = _open(path)
        # The sizes first: what is written meanwhile has no part in what the indexes say.
        parts = [Part(file) for file in files]
        for part in parts:
            part.index = _index(part.file)
        # In between they may have got each other's names.
        if all(map(_is_still, files)):
            return parts
        _close(files)


def _index(file: BinaryIO) -> bytes:
    try:
        return Path(f"{file.name}{SUFFIX}").read_bytes()
    except FileNotFoundError:
        return b""


def _is_still(file: BinaryIO) -> bool:
    with suppress(FileNotFoundError):
        return os.stat(file.name).st_ino == _inode(file)
    return False


def _open(path: Path) -> list[BinaryIO]:
    """A log's files, the oldest first; the one that is written to, the last, must be there."""
    files: dict[int, BinaryIO] = {}
    with suppress(FileNotFoundError):
        for number in range(ROTATED_FILES):
            # The newest first: a rotation meanwhile shows one twice, and none is missed.
            file = (path if not number else _rotated(path, number)).open("rb")
            if _inode(file) in files:
                file.close()
            else:
                files[_inode(file)] = file
    if not files:
        raise NotFound(f"log {path}: somebody removed it")
    return list(reversed(files.values()))


def _kept(files: list[BinaryIO], number: int) -> BinaryIO:
    """One of the files; the others are closed."""
    _close(file for other, file in enumerate(files) if other != number)
    return files[number]


def _close(files: Iterable[BinaryIO]) -> None:
    for file in files:
        file.close()


def _length(parts: Iterable[Part]) -> int:
    return sum(part.end - part.begin for part in parts)


def _inode(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_ino


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
