"""Bundles: a task's folders, made before its shim starts, removed after it ended (containerd: v2/bundle.go).

Contract 2.4. All functions block; the daemon runs them in threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from supervisor.errors import FailedPrecondition, SupervisorError
from supervisor.kernel.cgroup import remove_empty
from supervisor.kernel.mountinfo import mounts_below
from supervisor.kernel.mounts import unmount_recursive
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.shimv2.bootstrap import ShimAddress, encode_answer_json, parse_answer
from supervisor.shimv2.settings import ShimSettings

NAMESPACE_MODE = 0o711
BUNDLE_MODE = 0o700
MAPPED_BUNDLE_MODE = 0o710
ROOTFS_MODE = 0o711


@dataclass(frozen=True, slots=True)
class Bundle:
    """The folders of one task."""

    namespace: Namespace
    id: ContainerId
    path: Path
    work: Path

    @classmethod
    def of(cls, settings: ShimSettings, namespace: Namespace, id_: ContainerId) -> Bundle:
        """Where the bundle of a task is or would be."""
        return cls(namespace, id_, settings.bundles / namespace / id_, settings.works / namespace / id_)

    @property
    def rootfs(self) -> Path:
        """Where the shim mounts the root file system."""
        return self.path / "rootfs"

    @property
    def log(self) -> Path:
        """The fifo that shims log into."""
        return self.path / "log"

    def create(self, spec: bytes) -> None:
        """Make the folders, `config.json` and the `log` fifo; undone when it fails half way."""
        try:
            _make(self.path, BUNDLE_MODE)
        except FileExistsError:
            raise SupervisorError(f"create bundle {self.path}: a former task left it; remove it") from None
        try:
            self._fill(spec)
        except BaseException:
            self.remove()
            raise

    def _fill(self, spec: bytes) -> None:
        group = mapped_group(spec)
        if group:
            os.chown(self.path, -1, group)
            self.path.chmod(MAPPED_BUNDLE_MODE)
        self.rootfs.mkdir(mode=ROOTFS_MODE)
        # What an earlier task of the name left in the work folder is of no use to this one.
        shutil.rmtree(self.work, ignore_errors=True)
        _make(self.work, ROOTFS_MODE)
        (self.path / "work").symlink_to(self.work)
        (self.path / "config.json").write_bytes(spec)
        os.mkfifo(self.log, 0o700)

    def note_shim(self, binary: Path, address: ShimAddress) -> None:
        """Keep where the task's shim listens, in the two files by which other daemons find it as well."""
        (self.path / "shim-binary-path").write_text(str(binary))
        (self.path / "bootstrap.json").write_bytes(encode_answer_json(address))

    def shim_address(self) -> ShimAddress | None:
        """Where the task's shim listens, as the daemon has noted it or the shim itself."""
        for name in ("bootstrap.json", "address"):
            with contextlib.suppress(OSError, SupervisorError):
                return parse_answer((self.path / name).read_bytes())
        return None

    def remove_cgroup(self) -> None:
        """Remove the cgroup that the spec names, if it is empty.

        A runtime that was killed while it made a container has noted nothing yet that its own clean-up
        could go by. A name that is systemd's business (`slice:prefix:name`) is left to it.
        """
        try:
            path = str(json.loads((self.path / "config.json").read_bytes())["linux"]["cgroupsPath"])
        except (OSError, ValueError, TypeError, KeyError):
            return
        if path.strip("/") and ":" not in path:
            remove_empty(f"/{path}")

    def remove(self) -> None:
        """Unmount what is mounted below, then delete both folders; what is gone already is fine.

        Raises FailedPrecondition rather than delete through a mount that does not come off.
        """
        unmount_recursive(self.rootfs)
        remaining = mounts_below(self.path)
        if remaining:
            raise FailedPrecondition(f"{remaining[0].mount_point} is still mounted, {self.path} is kept")
        for folder in (self.path, self.work):
            _remove_folder(folder)


def mapped_group(spec: bytes) -> int:
    """The host's gid of the container's gid 0, 0 when it is the same or the spec does not say."""
    try:
        mappings = json.loads(spec)["linux"]["gidMappings"] or ()
        return next((int(one["hostID"]) for one in mappings if one["containerID"] == 0), 0)
    except (ValueError, TypeError, KeyError):
        return 0


def remove_leftovers(settings: ShimSettings) -> None:
    """Finish removals that a crash interrupted: folders that were renamed but not yet deleted."""
    for top in (settings.bundles, settings.works):
        for path in top.glob("*/.*"):
            shutil.rmtree(path)


def on_disk(settings: ShimSettings) -> Iterator[tuple[Namespace, ContainerId]]:
    """The bundles that there are."""
    for path in settings.bundles.glob("*/*"):
        if not path.name.startswith("."):
            yield Namespace(path.parent.name), ContainerId(path.name)


def _make(folder: Path, mode: int) -> None:
    """Make a folder in its namespace's folder, which a removal may take away at any moment."""
    while True:
        folder.parent.mkdir(mode=NAMESPACE_MODE, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            folder.mkdir(mode=mode)
            return


def _remove_folder(folder: Path) -> None:
    """Rename, then delete: a crash in between leaves a hidden name that the next start deletes."""
    hidden = folder.with_name(f".{folder.name}")
    try:
        folder.rename(hidden)
    except FileNotFoundError:
        pass
    except OSError:
        # The hidden name of an earlier, unfinished removal is in the way.
        shutil.rmtree(hidden)
        folder.rename(hidden)
    if hidden.exists():
        shutil.rmtree(hidden)
    with contextlib.suppress(OSError):  # other tasks of the namespace are there, or it is gone
        folder.parent.rmdir()
