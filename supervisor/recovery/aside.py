"""Taking things out of use without losing them: ROOT/set-aside/TIME/, with a note on each.

A move is a rename within one file system, so nothing is copied and what is open or mounted goes on. What
lies on another one is left where it is, and the error says so.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from supervisor.errors import FailedPrecondition
from supervisor.kernel.files import fsync_directory
from supervisor.model import instant

NOTES = "NOTES"


def stamp() -> str:
    """The present in milliseconds as it stands in names, sortable: 20060102T150405.000Z."""
    seconds, nanos = divmod(instant.now(), instant.SECOND)
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds)) + f".{nanos // 1_000_000:03d}Z"


class Aside:
    """The folder of one run; made with the first thing that is put there."""

    def __init__(self, folder: Path) -> None:
        """Put things below `folder`, in a folder of the time."""
        self.path = folder / stamp()

    def take(self, path: Path, why: str) -> Path:
        """Move a file or folder here, durably, and write down what it was; answers where it is.

        Raises FailedPrecondition when it cannot be moved; then it is where it was.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = self._free(path.name)
            self._note(f"{target.name}\twas {path}\t{why}\n")
            os.rename(path, target)
            for folder in (self.path, path.parent):
                fsync_directory(folder)
        except OSError as error:
            raise FailedPrecondition(
                f"set {path} aside in {self.path}: {error.strerror}; it stays where it is, move it by hand"
            ) from error
        return target

    def _free(self, name: str) -> Path:
        target, number = self.path / name, 1
        while os.path.lexists(target):
            target, number = self.path / f"{name}.{number}", number + 1
        return target

    def _note(self, line: str) -> None:
        with (self.path / NOTES).open("a") as notes:
            notes.write(line)
            notes.flush()
            os.fsync(notes.fileno())
