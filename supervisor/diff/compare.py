"""A layer made of the difference between two trees (containerd: core/diff, Comparer; contract 9.2).

worker: mounts, walks, writes tar -> sha256 -> compressed -> whoever stores it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from supervisor.diff import media_types
from supervisor.diff.comparing import layer
from supervisor.diff.compression import Compression, compress
from supervisor.diff.stream import Counted
from supervisor.errors import SupervisorError
from supervisor.model.digest import Digest
from supervisor.model.instant import Nanoseconds
from supervisor.model.mount import Mount


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two trees, and the layer to make; no file in it is to seem newer than `latest`."""

    left: Sequence[Mount]
    right: Sequence[Mount]
    media_type: str = ""
    latest: Nanoseconds | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """What was made: the blob's type and size, and of a compressed one the digest of its tar."""

    media_type: str
    size: int
    uncompressed: Digest | None


def compare(asked: Comparison, store: Callable[[bytes], None], *, tmp_root: Path) -> Packed:
    """Hand the layer to `store`, piece by piece.

    Raises Unimplemented for a media type that is not made, SupervisorError naming what failed.
    """
    media_type, compression = media_types.made(asked.media_type)
    try:
        with closing(layer(asked.left, asked.right, latest=asked.latest, tmp_root=tmp_root)) as pieces:
            tar = Counted(pieces)
            blob = Counted(compress(tar, compression))
            for piece in blob:
                store(piece)
    except OSError as error:
        raise SupervisorError(f"compare two trees: {error}") from error
    return Packed(media_type, blob.size, None if compression is Compression.NONE else tar.digest())
