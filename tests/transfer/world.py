"""The stores of a daemon without the daemon, images made of given layers, and what a snapshot shows."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from supervisor.content.local import LocalStore
from supervisor.diff.apply import Applied, Processing, apply
from supervisor.diff.compression import Readable
from supervisor.diff.limits import DEFAULT_LIMITS, Limits
from supervisor.kernel.mounts import mounted
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.database import Database
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshot_rules import New
from supervisor.metadata.snapshots import Snapshots
from supervisor.model.identifiers import Namespace
from supervisor.model.mount import Mount
from supervisor.oci import image, platform
from supervisor.oci.archive import NAME_ANNOTATION
from supervisor.snapshots.overlay import OverlaySnapshotter
from supervisor.snapshots.snapshotter import Kind
from supervisor.transfer import importing
from supervisor.transfer.importing import Import
from supervisor.transfer.naming import NameRule, Naming
from supervisor.transfer.progress import silent
from supervisor.transfer.stores import Scope, Stores, leased
from supervisor.transfer.unpacking import Unpack

NAMESPACE = Namespace("tests")
PLACE = Place(NAMESPACE, "overlayfs")
EVERY_NAME = NameRule("import", is_prefix=True, allow_overwrite=True)


def _apply(
    folder: Path,
    limits: Limits,
    namespace: Namespace,
    blob: Readable,
    media_type: str,
    mounts: Sequence[Mount],
    apart: bool,
) -> Applied:
    processing = Processing(limits=limits)
    return apply(blob, media_type, mounts, tmp_root=folder, sync=False, processing=processing, apart=apart)


@contextmanager
def opened(folder: Path, unpacks: int = 1, limits: Limits = DEFAULT_LIMITS) -> Iterator[Stores]:
    """Empty stores below `folder`, with snapshots of overlayfs."""
    folder.mkdir()
    with Database(folder / "metadata.db") as database:
        yield Stores(
            ContentStore(database, LocalStore(folder / "content")),
            Snapshots(database, [OverlaySnapshotter(folder / "overlayfs")]),
            partial(_apply, folder / "tmp", limits),
            folder,
            unpacks,
            limits,
        )


@contextmanager
def a_scope(stores: Stores) -> Iterator[Scope]:
    with leased(stores, NAMESPACE, None) as scope:
        yield scope


def bring(
    stores: Stores, archive: bytes, *rules: NameRule, name: str = "", unpack: bool = False
) -> list[str]:
    """Import an archive under these rules; the names that were given."""
    asked = Import(
        Naming(name, {}, rules or (EVERY_NAME,)),
        unpacks=[Unpack("overlayfs", platform.host())] if unpack else [],
    )
    with a_scope(stores) as scope:
        stored = importing.import_stream(scope, io.BytesIO(archive), asked, silent)
    return sorted(one.name for one in stored)


def tar(files: dict[str, bytes | str]) -> bytes:
    """An archive of files, and of symbolic links where the content is a str."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as writer:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                writer.addfile(member)
            else:
                member.size = len(content)
                writer.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def layout(
    layers: Sequence[bytes], *, without: str = "", **annotations: str
) -> tuple[bytes, tuple[str, ...]]:
    """An OCI layout of an image of these uncompressed layers, and the chain IDs of them.

    `annotations` are what its index says of it, by default a name; `without` leaves that blob out.
    """
    diff_ids = [digest_of(layer) for layer in layers]
    host = platform.host()
    config = _json(
        os=host.os, architecture=host.architecture, rootfs={"type": "layers", "diff_ids": diff_ids}
    )
    manifest = _json(
        schemaVersion=2,
        mediaType=image.OCI_MANIFEST,
        config=described(config, image.OCI_CONFIG),
        layers=[described(layer, image.OCI_LAYER) for layer in layers],
    )
    names = annotations or {NAME_ANNOTATION: "example.com/made:1"}
    top = {**described(manifest, image.OCI_MANIFEST), "annotations": names}
    files: dict[str, bytes | str] = {
        "oci-layout": _json(imageLayoutVersion="1.0.0"),
        "index.json": _json(schemaVersion=2, manifests=[top]),
    }
    for blob in (config, manifest, *layers):
        if digest_of(blob) != without:
            files[f"blobs/{digest_of(blob).replace(':', '/')}"] = blob
    return tar(files), image.chain_ids(diff_ids)


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def files_of(archive: bytes) -> dict[str, bytes]:
    """The regular files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        opened = {member.name: source.extractfile(member) for member in source}
        return {name: file.read() for name, file in opened.items() if file is not None}


def described(data: bytes, media_type: str) -> dict[str, object]:
    """The descriptor of bytes, as documents have it."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def seen(stores: Stores, name: str) -> Iterator[tuple[Mount, ...]]:
    """The mounts of a view of a snapshot."""
    mounts = stores.snapshots.prepare(PLACE, New(f"look at {name}", name, Kind.VIEW))
    try:
        yield mounts
    finally:
        stores.snapshots.remove(PLACE, f"look at {name}")


def trees(stores: Stores, name: str, scratch: Path) -> list[dict[str, object]]:
    """All that can be told of a snapshot: of what it shows, and of the folder of each layer, as marked."""
    with seen(stores, name) as mounts:
        with mounted(mounts, scratch) as root:
            shown = tree(root)
        lower = next((o for o in mounts[0].options if o.startswith("lowerdir=")), f"={mounts[0].source}")
        return [shown, *(tree(Path(folder)) for folder in lower.partition("=")[2].split(":"))]


def tree(root: Path) -> dict[str, object]:
    """Every file below a folder with its metadata, its bytes, and the other names that it has."""
    first: dict[int, str] = {}
    found: dict[str, object] = {}
    for folder, names, files in os.walk(root):
        names.sort()
        for name in sorted([*names, *files]):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, root)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                found[relative] = "hides nothing"  # overlayfs lists what hides, where no layer has more
                continue
            kind = stat.S_IFMT(status.st_mode)
            same = first.setdefault(status.st_ino, relative) if kind != stat.S_IFDIR else ""
            found[relative] = (
                oct(status.st_mode),
                (status.st_uid, status.st_gid),
                status.st_mtime_ns if status.st_mtime < LATEST else "now",
                status.st_rdev,
                same,
                {key: os.getxattr(path, key, follow_symlinks=False) for key in _xattrs(path)},
                Path(path).read_bytes() if kind == stat.S_IFREG else b"",
                os.readlink(path) if kind == stat.S_IFLNK else "",
            )
    return found


LATEST = 1_750_000_000
"""Before all tests: later times are those of the test itself."""


def _xattrs(path: str) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))
