"""Two ways to make whiteouts come true (containerd: pkg/archive, ConvertWhiteout).

A whiteout hides what lower layers have, never what its own layer brings, in whichever order the
two stand in the archive.
"""

from __future__ import annotations

import os
import stat
from typing import Protocol

from supervisor.diff.removal import remove, remove_below


class Hiding(Protocol):
    """What the unpacker tells of, and asks for. Paths are absolute, without links.

    `opaque` is filled by those that leave the marking of directories to the parent.
    """

    opaque: dict[bytes, None]

    def made(self, path: bytes) -> None:
        """`path` is of this layer."""
        ...

    def replaced(self, path: bytes) -> None:
        """The directory `path` took the place of something else that was there."""
        ...

    def hide(self, path: bytes, uid: int, gid: int) -> None:
        """Let `path` of lower layers be gone."""
        ...

    def hide_below(self, directory: bytes) -> None:
        """Let everything of lower layers in `directory` be gone."""
        ...


class Deletion:
    """In a tree that shows the lower layers' files: remove them."""

    def __init__(self) -> None:
        self.opaque: dict[bytes, None] = {}
        self._mine: set[bytes] = set()

    def made(self, path: bytes) -> None:
        """Remembered with the directories above, because a whiteout that comes later must leave it."""
        while path and path not in self._mine:
            self._mine.add(path)
            path = path.rpartition(b"/")[0]

    def replaced(self, path: bytes) -> None:
        """Nothing to do: what was there is gone."""

    def hide(self, path: bytes, uid: int, gid: int) -> None:
        """Remove the tree, or of a directory that this layer has, too, what is not its own."""
        if path not in self._mine:
            remove(path)
        elif stat.S_ISDIR(os.lstat(path).st_mode):
            self.hide_below(path)

    def hide_below(self, directory: bytes) -> None:
        """Remove what this layer did not make."""
        remove_below(directory or b"/", keep=self._mine.__contains__)


class OverlayMarks:
    """In the upper directory of an overlay: leave the marks that the kernel understands.

    Everything here is of this layer. Marking a directory opaque takes CAP_SYS_ADMIN, which the worker
    does not have, so those are listed for the parent.
    """

    def __init__(self) -> None:
        self.opaque: dict[bytes, None] = {}

    def made(self, path: bytes) -> None:
        """Nothing to remember."""

    def replaced(self, path: bytes) -> None:
        """A directory in place of a file, or of a whiteout, must not be merged with a lower one."""
        self.opaque[path] = None

    def hide(self, path: bytes, uid: int, gid: int) -> None:
        """Leave a character device 0:0, or hide what is below a directory that this layer has, too."""
        try:
            os.mknod(path, stat.S_IFCHR, 0)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                self.opaque[path] = None
            return
        os.lchown(path, uid, gid)

    def hide_below(self, directory: bytes) -> None:
        """List the directory for the parent."""
        self.opaque[directory or b"/"] = None
