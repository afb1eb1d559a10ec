"""Layers into snapshots, each named by its chain ID, while they arrive (containerd: core/unpack).

Where the driver of snapshots can give one its parent later, layers are unpacked side by side, each into
a folder of its own, and committed in their order: a layer's marks hide what is below without looking at
it, and directories that a layer only implies get the metadata of those below once these are there. So
the trees are those that one after the other would have made.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

from supervisor.diff.apply import Applied, complete
from supervisor.diff.compression import Readable
from supervisor.diff.limits import of_layer
from supervisor.errors import AlreadyExists, Cancelled, DataLoss, InvalidArgument, NotFound, Unavailable
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshot_rules import Finished, New
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.mount import Mount
from supervisor.model.platform import Platform
from supervisor.oci.image import ImageConfig, chain_ids
from supervisor.snapshots.snapshotter import LABEL_REF, Kind
from supervisor.transfer.progress import Extraction
from supervisor.transfer.stores import EXTRACT_PREFIX, Scope

UNCOMPRESSED_LABEL = "containerd.io/uncompressed"
_DIFF_ID_LABEL = "containerd.io/snapshot/diff-id"
_PARENT_LABEL = "containerd.io/snapshot/parent-chain-id"
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
    extraction: Extraction
    complete: Callable[[], None] = lambda: None


def unpack(
    scope: Scope,
    snapshotter: str,
    config: ImageConfig,
    sources: Sequence[Source],
    give_up: Callable[[], None] = lambda: None,
) -> str:
    """Unpack the layers that are not there yet; the snapshot that a container starts from, if there is any.

    `give_up` is called when one fails while others wait for their bytes. Raises InvalidArgument for an
    image that contradicts itself, DataLoss for a layer that is not what the image promises,
    ResourceExhausted for one beyond the limits: no snapshot of it stays.
    """
    if len(config.diff_ids) != len(sources):
        raise InvalidArgument(f"the image has {len(sources)} layers and {len(config.diff_ids)} diff IDs")
    chain = chain_ids(config.diff_ids)
    parents = ("", *chain)
    layers = [_Layer(*parts) for parts in zip(sources, config.diff_ids, parents, chain, strict=False)]
    unpacker = _Unpacker(scope, Place(scope.namespace, snapshotter))
    if scope.stores.unpacks > 1 and len(layers) > 1 and scope.stores.snapshots.rebases(snapshotter):
        unpacker.side_by_side(layers, give_up)
    else:
        for layer in layers:
            unpacker.unpack(layer)
    return parents[len(layers)]


@dataclass(frozen=True, slots=True)
class _Layer:
    source: Source
    diff_id: Digest
    parent: str
    chain_id: str

    @property
    def labels(self) -> Mapping[str, str]:
        """What its snapshot is labelled with."""
        parent = {_PARENT_LABEL: self.parent} if self.parent else {}
        return {LABEL_REF: self.chain_id, _DIFF_ID_LABEL: self.diff_id, **parent}


class _Unpacker:
    """Unpacks layers of one image into one driver's snapshots."""

    def __init__(self, scope: Scope, place: Place) -> None:
        self._scope = scope
        self._snapshots = scope.stores.snapshots
        self._place = place
        self._failed = threading.Event()

    def side_by_side(self, layers: Sequence[_Layer], give_up: Callable[[], None]) -> None:
        """Unpack layers at the same time, the lowest first; raises what the first that failed did."""
        jobs: list[Future[None]] = []
        with ThreadPoolExecutor(self._scope.stores.unpacks, thread_name_prefix="unpack") as pool:
            for layer in layers:
                jobs.append(pool.submit(self.unpack, layer, jobs[-1] if jobs else None))
            try:
                done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
                for job in filter(done.__contains__, jobs):
                    job.result()
            except BaseException:
                self._failed.set()
                for job in jobs:
                    job.cancel()
                give_up()
                raise

    def unpack(self, layer: _Layer, below: Future[None] | None = None) -> None:
        """Have the snapshot be there; another transfer may be at it.

        `below` ends with the unpacking of the layer below; without it that one is there.
        """
        name = f"{self._place.namespace}/{self._place.snapshotter}/{layer.chain_id}"
        with self._scope.stores.unpacking.holding(name, self._check):
            for _ in range(_ATTEMPTS):
                apart = below is not None and not self._is_there(layer.parent)
                # Time and chance, since several may be at it; all clients of containerd name them so.
                key = f"{EXTRACT_PREFIX}{time.time_ns() % 10**9}-{secrets.token_urlsafe(3)} {layer.chain_id}"
                new = New(key, "" if apart else layer.parent, labels=layer.labels)
                try:
                    mounts = self._snapshots.prepare(self._place, new, self._scope.lease)
                except AlreadyExists:  # and from now on the lease holds it
                    if self._is_there(layer.chain_id):
                        layer.source.complete()
                        return
                    continue
                try:
                    self._fill(layer, key, mounts, below if apart else None)
                except BaseException:
                    self._drop(key)
                    raise
                return
        raise Unavailable(f"unpack layer {layer.source.layer.digest}: its snapshot comes and goes; try again")

    def _fill(self, layer: _Layer, key: str, mounts: Sequence[Mount], below: Future[None] | None) -> None:
        """Unpack into a snapshot and commit it, without a parent until now if `below` is given."""
        source, blob, scope = layer.source, layer.source.layer, self._scope
        source.extraction.at(0)
        reader = _Watched(source.reader(), self._check, source.extraction.at)
        with of_layer(blob.digest):
            applied = scope.stores.apply(scope.namespace, reader, blob.media_type, mounts, below is not None)
        source.complete()
        if applied.digest != layer.diff_id:
            raise DataLoss(
                f"layer {blob.digest} unpacks to {applied.digest}, the image promises {layer.diff_id}"
            )
        scope.label(blob.digest, {UNCOMPRESSED_LABEL: applied.digest})
        if below is not None:
            below.result()
            self._complete(layer, applied)
        self._commit(layer, key, layer.parent if below is not None else "")
        source.extraction.done()

    def _complete(self, layer: _Layer, applied: Applied) -> None:
        """Look at the layers below, now that they are there."""
        if not applied.implied:
            return
        key = f"{EXTRACT_PREFIX}below-{secrets.token_urlsafe(6)} {layer.chain_id}"
        mounts = self._snapshots.prepare(self._place, New(key, layer.parent, Kind.VIEW), self._scope.lease)
        try:
            complete(applied, mounts)
        finally:
            self._drop(key)

    def _commit(self, layer: _Layer, key: str, parent: str) -> None:
        finished = Finished(key, layer.chain_id, parent, layer.labels)
        try:
            self._snapshots.commit(self._place, finished, self._scope.lease)
        except AlreadyExists:  # another was faster; its snapshot is as good
            self._drop(key)

    def _check(self) -> None:
        self._scope.check()
        if self._failed.is_set():
            raise Cancelled("another layer of the image could not be unpacked")

    def _is_there(self, name: str) -> bool:
        try:
            return self._snapshots.stat(self._place, name).kind is Kind.COMMITTED
        except NotFound:
            return False

    def _drop(self, key: str) -> None:
        with suppress(NotFound):
            self._snapshots.remove(self._place, key, self._scope.lease)


class _Watched:
    """A reader that ends with its transfer, and tells how far it is."""

    def __init__(self, inner: Readable, check: Callable[[], object], at: Callable[[int], object]) -> None:
        self._inner = inner
        self._check = check
        self._at = at
        self._offset = 0
        if hasattr(inner, "fileno"):
            self.fileno = inner.fileno  # stream processors read files by themselves

    def read(self, size: int, /) -> bytes:
        self._check()
        data = self._inner.read(size)
        self._offset += len(data)
        self._at(self._offset)
        return data
