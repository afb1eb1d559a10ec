"""Whether overlayfs works: tried in a mount namespace and on memory of its own, so that nothing stays."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from pathlib import Path

from supervisor.doctor.finding import Check, Finding, failure, note, ok
from supervisor.doctor.place import Place
from supervisor.doctor.processes import PROC
from supervisor.doctor.tree import nearest
from supervisor.kernel import features, listing
from supervisor.kernel.mounts import in_private_namespace, mount_all
from supervisor.model.mount import Mount

_THEME = "snapshots"
_ADVICE = "boot a kernel with overlayfs, or use the snapshotter native, which copies every layer"
# Hidden for a moment, and from this process's thread alone.
_SCENE = Path("/sys")
_UPPER_SUITS = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "f2fs", "zfs", "bcachefs"))
_UPPER_FAILS = frozenset(
    (
        "overlay",
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "vfat",
        "msdos",
        "exfat",
        "ntfs3",
        "9p",
        "ecryptfs",
        "squashfs",
    )
)
_PROBE = "trusted.overlay.opaque"


def checks(place: Place) -> list[Check]:
    """Only where overlayfs is wanted."""
    if "overlayfs" not in place.drivers:
        return []
    return [
        Check(_THEME, "overlayfs", partial(overlay, PROC / "filesystems")),
        Check(_THEME, "layers on disk", lambda: layers(nearest(place.root))),
    ]


def overlay(filesystems: Path) -> Finding:
    """A layer over another: a file read through it, one made, one hidden."""
    if "overlay" not in filesystems.read_text().split():
        return _unloaded()
    if os.geteuid():
        return note("the kernel has it; only root can try it", "run this as root to have it tried")
    try:
        in_private_namespace(_try)
    except OSError as error:
        return failure(f"an overlay cannot be mounted: {error}", _ADVICE)
    return ok("an overlay was mounted, written to, and gone with its mount namespace")


def _unloaded() -> Finding:
    """Not tried, since that would load it."""
    folder = Path("/lib/modules", os.uname().release)
    if any((folder / "kernel/fs/overlayfs").glob("overlay.ko*")):
        return note("a module of the kernel that is not loaded; the first mount loads it", "modprobe overlay")
    return failure("this kernel has no overlayfs", _ADVICE)


def _try() -> None:
    mount_all([Mount("tmpfs", "tmpfs", ("size=1m",))], _SCENE)
    lower, upper, work, merged = (_SCENE / name for name in ("lower", "upper", "work", "merged"))
    for folder in (lower, upper, work, merged):
        folder.mkdir()
    (lower / "old").write_text("old")
    options = (f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}")
    mount_all([Mount("overlay", "overlay", options)], merged)
    (merged / "new").write_text((merged / "old").read_text())
    (merged / "old").unlink()
    if (upper / "new").read_text() != "old" or not stat.S_ISCHR((upper / "old").lstat().st_mode):
        raise OSError(errno.EIO, "what was written is not in the upper layer")


def layers(folder: Path) -> Finding:
    """The filesystem that snapshots lie on can hold the layer that a container writes to."""
    kind = features.filesystem_type(folder)
    if kind in _UPPER_FAILS or kind.startswith("fuse"):
        return failure(
            f"{folder} is on {kind}, which cannot hold the upper layer of an overlay",
            "put the root on ext4, xfs or btrfs (--root); within a container, on a volume",
        )
    if not listing.tells_types(folder):
        return failure(
            f"{kind} at {folder} does not tell files' types in listings, so that overlays lose deletions",
            "make the filesystem anew: mkfs.xfs -n ftype=1, or mkfs.ext4 with the feature filetype",
        )
    if not _keeps_attributes(folder):
        return failure(
            f"{kind} at {folder} keeps no extended attributes, which mark what a layer hides",
            "mount it with extended attributes, or put the root elsewhere (--root)",
        )
    if kind not in _UPPER_SUITS:
        return note(f"{kind} at {folder} may do; the daemon tries it when it starts")
    return ok(f"{kind} at {folder} tells types and keeps attributes")


def _keeps_attributes(folder: Path) -> bool:
    try:
        os.getxattr(folder, _PROBE)
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    return True
