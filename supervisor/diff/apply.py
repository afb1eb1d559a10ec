"""A layer applied to the mounts of a snapshot (containerd: core/diff, Applier; contract 9.1).

blob -> decompressed -> sha256 of all that comes out -> pipe -> the worker's tar reader. Whoever asked
compares the digest with the image's own; what was unpacked must be discarded when they differ.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, cast

from supervisor.diff import bounded, media_types, processors
from supervisor.diff import target as targets
from supervisor.diff.compression import Readable
from supervisor.diff.finishing import finish
from supervisor.diff.limits import DEFAULT_LIMITS, Limits
from supervisor.diff.processors import Processor
from supervisor.diff.stream import Counted
from supervisor.diff.target import Target, plan
from supervisor.diff.unpacking import Report, unpack
from supervisor.errors import SupervisorError
from supervisor.kernel.features import in_user_namespace
from supervisor.kernel.files import sync_filesystem
from supervisor.model.digest import Digest
from supervisor.model.mount import Mount


@dataclass(frozen=True, slots=True)
class Applied:
    """What came out of a blob: the descriptor of its uncompressed tar, as it was unpacked.

    Of a layer that was unpacked apart, `implied` are directories below `root` that no entry describes:
    they are to be as in the layers below, by `complete`.
    """

    media_type: str
    digest: Digest
    size: int
    root: str = ""
    implied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Processing:
    """The stream processors that are configured, a client's payloads for them, and what may come of it."""

    processors: Sequence[Processor] = ()
    payloads: Mapping[str, bytes] = field(default_factory=dict)
    limits: Limits = DEFAULT_LIMITS


NO_PROCESSING = Processing()


@contextmanager
def whole(blob: Readable, media_type: str, processing: Processing, spool: Path) -> Iterator[Readable]:
    """The blob, as a file if processors want it: one that is still arriving is written down below `spool`."""
    if not processors.chain(media_type, processing.processors)[0] or hasattr(blob, "fileno"):
        yield blob
        return
    with tempfile.TemporaryFile(dir=spool) as file:
        shutil.copyfileobj(cast("IO[bytes]", blob), file)
        file.seek(0)
        yield file


def apply(
    blob: Readable,
    media_type: str,
    mounts: Sequence[Mount],
    *,
    tmp_root: Path,
    sync: bool,
    processing: Processing = NO_PROCESSING,
    apart: bool = False,
) -> Applied:
    """Unpack the layer `blob` of `media_type` into `mounts`; with `sync` it is on disk when this returns.

    Mounts that have to be performed are so in the worker's own namespace, at a folder below `tmp_root`.
    `apart` is for a layer whose lower ones are being unpacked at the same time; it needs `complete` later.
    Raises ResourceExhausted for a layer beyond the limits, SupervisorError naming what else failed; the
    tree may then hold part of the layer.
    """
    target = targets.apart(mounts) if apart else plan(mounts, in_user_namespace=in_user_namespace())
    through, last_type = processors.chain(media_type, processing.processors)
    if not through:
        return _apply(blob, media_type, target, tmp_root, sync=sync, limits=processing.limits)
    file = cast("BinaryIO", blob)  # which programs can read, too
    with processors.running(file, media_type, through, processing.payloads) as made:
        return _apply(made, last_type, target, tmp_root, sync=sync, limits=processing.limits)


def complete(applied: Applied, below: Sequence[Mount]) -> None:
    """Give what was unpacked apart what it has from the layers that the read-only mounts `below` show."""
    try:
        finish(applied.root, targets.lowers(below), Report(list(applied.implied)))
    except OSError as error:
        raise SupervisorError(f"complete the layer in {applied.root}: {error}") from error


def _apply(
    blob: Readable, media_type: str, target: Target, tmp_root: Path, *, sync: bool, limits: Limits
) -> Applied:
    counted = Counted(bounded.plain(blob, limits, by_magic=media_types.may_be_compressed(media_type)))
    try:
        with _mount_point(target, tmp_root) as point:
            report = unpack(counted, target, point, sync=sync and not target.marks, limits=limits)
        if target.marks:
            finish(target.root, target.lowers, report)
            if sync:
                sync_filesystem(Path(target.root))
    except OSError as error:
        raise SupervisorError(f"apply a layer to {target.root or 'its mounts'}: {error}") from error
    implied = () if target.lowers else tuple(report.implied)
    return Applied(media_types.APPLIED, counted.digest(), counted.size, target.root, implied)


@contextmanager
def _mount_point(target: Target, tmp_root: Path) -> Iterator[str]:
    """A folder to mount on; it stays empty on this side, because the worker has mounts of its own."""
    if not target.mounts:
        yield target.root
        return
    tmp_root.mkdir(mode=0o700, parents=True, exist_ok=True)
    point = tempfile.mkdtemp(prefix="apply-", dir=tmp_root)
    try:
        yield point
    finally:
        os.rmdir(point)
