"""One numbered folder per snapshot, and the trash, as drivers that live on a local filesystem keep them.

    ROOT/snapshots/NUMBER/...      0700
    ROOT/trash/NUMBER/...          what was removed, until it is deleted

Removal is a rename within one filesystem: quick, and undone by no crash.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from supervisor.kernel.trees import remove_contents

PRIVATE = 0o700


def make_folder(path: Path, mode: int) -> None:
    """Make a folder of exactly `mode`, whatever the process's umask."""
    os.mkdir(path, mode)
    os.chmod(path, mode)


class Folders:
    """The numbered folders below a driver's root."""

    def __init__(self, root: Path) -> None:
        """Make what is missing of `root`."""
        self.root = root
        self._snapshots = root / "snapshots"
        self._trash = root / "trash"
        self._cleaning = threading.Lock()
        root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        for folder in (self._snapshots, self._trash):
            with suppress(FileExistsError):
                make_folder(folder, PRIVATE)

    def path(self, number: int) -> Path:
        """Where snapshot `number` lies."""
        return Path(self.name(number))

    def name(self, number: int) -> str:
        """As `path`, for mounts that name a folder for each layer."""
        return f"{self._snapshots}/{number}"

    def make(self, number: int) -> Path:
        """Make the folder of a new snapshot."""
        path = self.path(number)
        make_folder(path, PRIVATE)
        return path

    def discard(self, number: int) -> None:
        """Move a snapshot's folder to the trash; if there is none, all is well."""
        with suppress(FileNotFoundError):
            os.rename(self.path(number), self._trash / str(number))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder on the same filesystem for a moment; it lies in the trash, in case of a crash."""
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=self._trash) as folder:
            yield Path(folder)

    def empty_trash(self) -> None:
        """Delete everything in the trash."""
        with self._cleaning:
            remove_contents(self._trash)

    def numbers(self) -> set[int]:
        """The numbers of all folders."""
        return {int(name) for name in os.listdir(self._snapshots) if name.isdecimal()}
