"""Snapshots as full copies, for filesystems that overlayfs does not work on.

(containerd: plugins/snapshots/native.)

NUMBER/fs      0755  the whole tree
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from supervisor.kernel.files import sync_filesystem
from supervisor.kernel.trees import copy_tree
from supervisor.kernel.usage import disk_usage
from supervisor.model.mount import Mount
from supervisor.snapshots.folders import Folders, make_folder
from supervisor.snapshots.snapshotter import Kind, Layer, Usage

NAME = "native"

_FS_MODE = 0o755


class NativeSnapshotter:
    """The `native` driver."""

    name = NAME
    capabilities: tuple[str, ...] = ()

    def __init__(self, root: Path) -> None:
        """Keep snapshots below `root`."""
        self._folders = Folders(root)

    @property
    def root(self) -> str:
        """The folder of the driver's files."""
        return str(self._folders.root)

    def check(self, labels: Mapping[str, str]) -> None:
        """Labels change nothing here."""

    def create(self, layer: Layer) -> None:
        """Copy the parent for an active snapshot; a view looks at the parent itself."""
        if layer.kind is Kind.VIEW and layer.parents:
            self._folders.make(layer.id)
            return
        fs = self._folders.make(layer.id) / "fs"
        make_folder(fs, _FS_MODE)
        if layer.parents:
            copy_tree(self._fs(layer.parents[0]), fs)

    def mounts(self, layer: Layer) -> tuple[Mount, ...]:
        """One bind mount."""
        viewed = layer.parents[0] if layer.kind is Kind.VIEW and layer.parents else layer.id
        access = "rw" if layer.kind is Kind.ACTIVE else "ro"
        return (Mount("bind", str(self._fs(viewed)), ("rbind", access)),)

    def _fs(self, number: int) -> Path:
        return self._folders.path(number) / "fs"

    def usage(self, layer: Layer) -> Usage:
        """The copy with all that came from the parents."""
        measured = disk_usage(self._fs(layer.id))
        return Usage(measured.size, measured.inodes)

    def commit(self, layer: Layer) -> Usage:
        """Write out the filesystem that holds the copy, then measure it."""
        sync_filesystem(self._fs(layer.id))
        return self.usage(layer)

    def remove(self, number: int) -> None:
        """Move the folder to the trash."""
        self._folders.discard(number)

    def cleanup(self) -> None:
        """Empty the trash."""
        self._folders.empty_trash()

    def numbers(self) -> set[int]:
        """The folders that are there."""
        return self._folders.numbers()
