"""Layers into snapshots, each named by its chain ID, while they arrive (containerd: core/unpack)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from supervisor.diff.compression import Readable
from supervisor.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, Unavailable
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshot_rules import Finished, New
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.platform import Platform
from supervisor.oci.image import ImageConfig, chain_ids
from supervisor.transfer.stores import EXTRACT_PREFIX, Scope

UNCOMPRESSED_LABEL = "containerd.io/uncompressed"
_REF_LABEL = "containerd.io/snapshot.ref"
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Unpack:
    """Where to unpack to, and the image of which platform."""

    snapshotter: str
    platform: Platform


@dataclass(frozen=True, slots=True)
class Source:
    """A layer and its bytes: `reader` may wait for them, `complete` waits until all are verified."""

    layer: Descriptor
    reader: Callable[[], Readable]
    complete: Callable[[], None] = lambda: None
    began: Callable[[], None] = lambda: None
    done: Callable[[], None] = lambda: None


def unpack(scope: Scope, snapshotter: str, config: ImageConfig, sources: Sequence[Source]) -> str:
    """Unpack the layers that are not there yet; the snapshot that a container starts from, if there is any.

    Raises InvalidArgument for an image that contradicts itself, DataLoss for a layer that is not what the
    image promises: no snapshot of it stays.
    """
    if len(config.diff_ids) != len(sources):
        raise InvalidArgument(f"the image has {len(sources)} layers and {len(config.diff_ids)} diff IDs")
    place, parent = Place(scope.namespace, snapshotter), ""
    for source, diff_id, chain_id in zip(sources, config.diff_ids, chain_ids(config.diff_ids), strict=True):
        _unpack_layer(scope, place, _Layer(source, diff_id, parent, chain_id))
        parent = chain_id
    return parent


@dataclass(frozen=True, slots=True)
class _Layer:
    source: Source
    diff_id: Digest
    parent: str
    chain_id: str


def _unpack_layer(scope: Scope, place: Place, layer: _Layer) -> None:
    """Have the snapshot be there; another transfer may be faster."""
    snapshots, labels = scope.stores.snapshots, {_REF_LABEL: layer.chain_id}
    for _ in range(_ATTEMPTS):
        # The name of what is being extracted carries time and chance: several may be at it.
        key = f"{EXTRACT_PREFIX}{time.time_ns() % 1_000_000_000}-{secrets.token_urlsafe(3)} {layer.chain_id}"
        with suppress(NotFound):
            snapshots.stat(place, layer.chain_id)
            layer.source.complete()
            return
        try:
            mounts = snapshots.prepare(place, New(key, layer.parent, labels=labels), scope.lease)
        except AlreadyExists:
            continue
        try:
            layer.source.began()
            blob = layer.source.layer
            applied = scope.stores.apply(scope.namespace, layer.source.reader(), blob.media_type, mounts)
            layer.source.complete()
            _check(blob, applied.digest, layer.diff_id)
            scope.label(blob.digest, {UNCOMPRESSED_LABEL: applied.digest})
            _commit(scope, place, key, layer)
        except BaseException:
            with suppress(NotFound):
                snapshots.remove(place, key, scope.lease)
            raise
        layer.source.done()
        return
    raise Unavailable(f"unpack layer {layer.source.layer.digest}: its snapshot comes and goes; try again")


def _check(blob: Descriptor, found: str, promised: str) -> None:
    if found != promised:
        raise DataLoss(f"layer {blob.digest} unpacks to {found}, the image promises {promised}")


def _commit(scope: Scope, place: Place, key: str, layer: _Layer) -> None:
    snapshots = scope.stores.snapshots
    try:
        labels = {_REF_LABEL: layer.chain_id}
        snapshots.commit(place, Finished(key, layer.chain_id, labels=labels), scope.lease)
    except AlreadyExists:  # another was faster; its snapshot is as good
        snapshots.remove(place, key, scope.lease)
