"""The parent's side of the comparing worker: two trees become a stream of tar."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from supervisor.diff import child
from supervisor.errors import SupervisorError
from supervisor.model.mount import Mount

PIECE_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 10

_WRITING = ("rw", "upperdir", "workdir", "uidmap", "gidmap", "lowerdir")


def layer(
    left: Sequence[Mount], right: Sequence[Mount], *, latest: int | None, tmp_root: Path
) -> Generator[bytes, None, None]:
    """The pieces of the uncompressed layer that makes the tree of `left` that of `right`.

    Without `left` everything is an addition. Raises SupervisorError, in the end, when something failed.
    """
    tmp_root.mkdir(mode=0o700, parents=True, exist_ok=True)
    point = tempfile.mkdtemp(prefix="compare-", dir=tmp_root)
    request = {
        "point": point,
        "left": [asdict(mount) for mount in left],
        "right": [asdict(mount) for mount in read_only(right)],
        "latest": latest,
    }
    try:
        pipe = subprocess.PIPE
        with child.running("compare_worker", request, stdout=pipe, stderr=pipe) as process:
            while piece := child.of(process.stdout).read(PIECE_BYTES):
                yield piece
            _check(child.of(process.stderr).read(MAX_LINE_BYTES))
    finally:
        os.rmdir(point)


def read_only(mounts: Sequence[Mount]) -> list[Mount]:
    """The same tree without the right to write: it may be in use, and must not be mounted twice."""
    return [*mounts[:-1], _read_only(mounts[-1])] if mounts else []


def _read_only(mount: Mount) -> Mount:
    if mount.type != "overlay":
        return replace(mount, options=(*(word for word in mount.options if word != "rw"), "ro"))
    named = dict(word.partition("=")[::2] for word in mount.options)
    layers = [named[key] for key in ("upperdir", "lowerdir") if named.get(key)]
    rest = tuple(word for word in mount.options if word.partition("=")[0] not in _WRITING)
    if layers == [named.get("upperdir")]:
        return Mount("bind", layers[0], ("ro", "rbind"), mount.target)
    return replace(mount, options=(f"lowerdir={':'.join(layers)}", *rest))


def _check(line: bytes) -> None:
    match json.loads(line) if line else None:
        case {"ok": True}:
            return
        case {"error": str(text)}:
            raise SupervisorError(text)
    raise SupervisorError("the compare worker died without a word; was it killed, or is memory short?")
