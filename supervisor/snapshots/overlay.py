"""Snapshots as layers of overlayfs (containerd: plugins/snapshots/overlay).

NUMBER/fs      0755  the layer: what this snapshot has beyond its parents
NUMBER/work    0711  overlayfs's own, only for an active snapshot
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from supervisor.errors import FailedPrecondition
from supervisor.kernel import features
from supervisor.kernel.files import sync_filesystem
from supervisor.kernel.mounts import in_private_namespace, mount_all
from supervisor.kernel.usage import disk_usage
from supervisor.model.mount import Mount
from supervisor.snapshots import idmapping
from supervisor.snapshots.folders import PRIVATE, Folders, make_folder
from supervisor.snapshots.snapshotter import REBASE, Kind, Layer, Usage

NAME = "overlayfs"
REMAP_IDS, ONLY_REMAP_IDS = "remap-ids", "only-remap-ids"

_FS_MODE, _WORK_MODE = 0o755, 0o711
_IDMAP_KERNEL = (5, 19)  # the first whose overlayfs takes idmapped lower layers


class OverlaySnapshotter:
    """The `overlayfs` driver."""

    name = NAME

    def __init__(self, root: Path, *, mount_options: Sequence[str] = (), slow_chown: bool = False) -> None:
        """Keep snapshots below `root`; `mount_options` are put on every overlay mount."""
        self._folders = Folders(root)
        self._extra = (*mount_options, *_needed_options(root, mount_options))
        self._idmapped = features.kernel_version() >= _IDMAP_KERNEL
        self._slow_chown = slow_chown

    def check_supported(self) -> None:
        """Try an overlay on the filesystem of the root; raises FailedPrecondition, worded as clients know it.

        A root on overlayfs itself, on NFS or in a user namespace of an old kernel does not do.
        """
        with self._folders.scratch() as folder:
            for name in ("one", "two", "merged"):
                make_folder(folder / name, PRIVATE)
            mount = Mount("overlay", "overlay", (f"lowerdir={folder}/one:{folder}/two", *self._extra))
            try:
                in_private_namespace(lambda: mount_all([mount], folder / "merged"))
            except OSError as error:
                raise FailedPrecondition(
                    f"skip plugin: overlayfs does not work below {self.root}: {error}; use snapshotter native"
                ) from error

    @property
    def root(self) -> str:
        """The folder of the driver's files."""
        return str(self._folders.root)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Whether owners can be shifted, by whom, and whether layers can be rebased."""
        found = [REMAP_IDS] if self._idmapped else []
        if not self._slow_chown:
            found.append(ONLY_REMAP_IDS)
        if not features.in_user_namespace():
            found.append(REBASE)
        return tuple(found)

    def check(self, labels: Mapping[str, str]) -> None:
        """Refuse id mappings that cannot be understood."""
        idmapping.from_labels(labels)

    def create(self, layer: Layer) -> None:
        """Make `fs`, owned by the container's root or as the parent's is, and `work` where it is written."""
        folder = self._folders.make(layer.id)
        make_folder(folder / "fs", _FS_MODE)
        owner = self._owner(layer)
        if owner is not None:
            os.chown(folder / "fs", *owner)
        if layer.kind is Kind.ACTIVE:
            make_folder(folder / "work", _WORK_MODE)

    def _owner(self, layer: Layer) -> tuple[int, int] | None:
        mapping = idmapping.from_labels(layer.labels)
        if mapping is not None:
            return mapping.root_uid, mapping.root_gid
        if layer.parents:
            status = os.stat(self._fs(layer.parents[0]))
            return status.st_uid, status.st_gid
        return None

    def mounts(self, layer: Layer) -> tuple[Mount, ...]:
        """One mount: a bind where one folder is all there is to see, else an overlay."""
        mapping = idmapping.from_labels(layer.labels) if self._idmapped else None
        shifts = mapping.options() if mapping else ()
        if layer.kind is Kind.ACTIVE and layer.parents:
            return (self._overlay(shifts, layer.parents, upper=layer.id),)
        if len(layer.parents) > 1:
            return (self._overlay(shifts, layer.parents),)
        access = "rw" if layer.kind is Kind.ACTIVE else "ro"
        folder = self._fs(layer.parents[0] if layer.parents else layer.id)
        return (Mount("bind", folder, (*shifts, access, "rbind")),)

    def _overlay(self, shifts: tuple[str, ...], lower: Sequence[int], upper: int | None = None) -> Mount:
        writable: tuple[str, ...] = ()
        if upper is not None:
            writable = (f"workdir={self._folders.name(upper)}/work", f"upperdir={self._fs(upper)}")
        layers = "lowerdir=" + ":".join(map(self._fs, lower))
        return Mount("overlay", "overlay", (*shifts, *writable, layers, *self._extra))

    def _fs(self, number: int) -> str:
        return f"{self._folders.name(number)}/fs"

    def usage(self, layer: Layer) -> Usage:
        """The upper layer alone."""
        measured = disk_usage(Path(self._fs(layer.id)))
        return Usage(measured.size, measured.inodes)

    def commit(self, layer: Layer) -> Usage:
        """Write out the filesystem that holds the layer, then measure it."""
        sync_filesystem(Path(self._fs(layer.id)))
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


def _needed_options(root: Path, configured: Sequence[str]) -> list[str]:
    """What this machine needs on every overlay mount, unless the configuration says something of it."""
    names = {option.partition("=")[0] for option in configured}
    needed: list[str] = []
    if (
        "userxattr" not in names
        and features.in_user_namespace()
        and features.filesystem_type(root) != "tmpfs"
    ):
        needed.append("userxattr")
    if "index" not in names and features.overlay_has_index():
        needed.append("index=off")
    return needed
