"""What transfers work on: the stores of one namespace, under one lease."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from supervisor.content.locks import WaitingLocks
from supervisor.diff.apply import Applied
from supervisor.diff.compression import Readable
from supervisor.diff.limits import DEFAULT_LIMITS, Limits
from supervisor.errors import AlreadyExists, DataLoss, NotFound
from supervisor.metadata import images, leases
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.database import Transaction
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshots import Snapshots
from supervisor.model import digest as digests
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.identifiers import Namespace
from supervisor.model.image import Image
from supervisor.model.instant import SECOND, Nanoseconds, format_rfc3339, now
from supervisor.model.lease import EXPIRE_LABEL, Lease
from supervisor.model.mount import Mount
from supervisor.oci.document import MAX_DOCUMENT_BYTES
from supervisor.registry.deadline import Deadline
from supervisor.transfer import origins

LEASE_SECONDS = 24 * 3600
"""How long what a transfer has brought is kept if it fails, or the daemon dies before its end."""

TRANSFER_LABEL = "supervisor.io/transfer"
"""Marks the leases of transfers."""

EXTRACT_PREFIX = "extract-"
"""How the keys of snapshots begin that a layer is being unpacked into."""

Apply = Callable[[Namespace, Readable, str, Sequence[Mount], bool], Applied]
"""Unpacks a layer of a media type into mounts of a namespace, last: apart from the layers below."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Content, snapshots and images of all namespaces; `spool` is a folder for what must be read twice."""

    content: ContentStore
    snapshots: Snapshots
    apply: Apply
    spool: Path
    unpacks: int = 1
    """Layers of one image that are unpacked at a time, where the driver of snapshots allows it."""
    limits: Limits = DEFAULT_LIMITS
    """Of what is decompressed otherwise than by `apply`."""
    unpacking: WaitingLocks = field(default_factory=WaitingLocks)
    """Held by the name of the snapshot that is being made, so that none is made twice."""


@dataclass(slots=True)
class Scope:
    """One transfer's view of the stores: whose, and which lease holds what it makes."""

    stores: Stores
    namespace: Namespace
    lease: str
    deadline: Deadline = field(default_factory=Deadline)
    worthwhile: bool = False
    """Whether it has brought what another attempt can go on from; if it fails, the lease stays a while."""

    def check(self) -> None:
        """Raise Cancelled once the transfer is given up."""
        self.deadline.check()

    def open(self, digest: Digest) -> BinaryIO:
        """A blob of the namespace, to be closed; raises NotFound."""
        return self.stores.content.open_blob(self.namespace, digest)[0]

    def has(self, digest: Digest) -> bool:
        """Whether the namespace has the blob; if so the lease holds it from now on."""
        content = self.stores.content
        return content.has(self.namespace, digest) and content.hold(self.namespace, digest, self.lease)

    def document(self, target: Descriptor) -> bytes:
        """A small blob as a whole; raises NotFound, DataLoss when it is too large or damaged."""
        with self.open(target.digest) as blob:
            data = blob.read(MAX_DOCUMENT_BYTES + 1)
        algorithm, _ = digests.split(target.digest)
        if len(data) > MAX_DOCUMENT_BYTES or digests.of_bytes(data, algorithm) != target.digest:
            raise DataLoss(f"blob {target.digest} is no document, or damaged; pull the image again")
        return data

    def label(self, digest: Digest, labels: Mapping[str, str]) -> None:
        """Give a blob labels that it lacks, and where it came from beside where else it has."""
        content = self.stores.content
        known = content.info(self.namespace, digest)
        given = {key: origins.joined(key, known.labels.get(key), value) for key, value in labels.items()}
        new = [key for key, value in given.items() if known.labels.get(key) != value]
        if new:
            content.update(self.namespace, replace(known, labels=given), [f"labels.{key}" for key in new])

    def write(self, blob: Descriptor, data: bytes, labels: Mapping[str, str]) -> bool:
        """Store a document with labels; False when it is there already, with the labels now."""
        ref = f"{blob.digest}-{secrets.token_hex(4)}"
        try:
            ingest = self.stores.content.open_ingest(
                self.namespace, ref, self.lease, total=len(data), expected=blob.digest
            )
        except AlreadyExists:
            self.label(blob.digest, labels)
            return False
        try:
            if not ingest.status().offset:  # another namespace's bytes may stand for them
                ingest.append(data)
            ingest.commit(len(data), blob.digest, labels)
        except AlreadyExists:
            self.label(blob.digest, labels)
            return False
        finally:
            ingest.close()
        return True

    def name(self, image: Image) -> Image:
        """Give an image its name, whatever had it before."""
        return self.stores.content.database.write(lambda tx: _put(tx, self.namespace, image))

    def image(self, name: str) -> Image:
        """An image by its name; raises NotFound."""
        return self.stores.content.database.read(lambda c: images.get(c, self.namespace, name))


def _put(tx: Transaction, namespace: Namespace, image: Image) -> Image:
    try:
        return images.create(tx, namespace, image)
    except AlreadyExists:
        return images.change(tx, namespace, image)


@contextmanager
def leased(
    stores: Stores, namespace: Namespace, lease: str | None, deadline: Deadline | None = None
) -> Iterator[Scope]:
    """A scope under the caller's lease, or under one that ends with the context.

    After a failure that one stays for LEASE_SECONDS if what was brought so far is of use.
    """
    deadline = deadline or Deadline()
    if lease is not None:
        yield Scope(stores, namespace, lease, deadline)
        return
    database = stores.content.database
    expires = format_rfc3339(Nanoseconds(now() + LEASE_SECONDS * SECOND))
    labels = {EXPIRE_LABEL: expires, TRANSFER_LABEL: "true"}
    made = database.write(lambda tx: leases.create(tx, namespace, Lease("", labels)))
    scope = Scope(stores, namespace, made.id, deadline)
    try:
        yield scope
    except BaseException:
        if not scope.worthwhile:
            _end(scope)
        raise
    _end(scope)


def _end(scope: Scope) -> None:
    with suppress(NotFound):
        scope.stores.content.database.write(lambda tx: leases.remove(tx, scope.namespace, scope.lease))


def reclaim(stores: Stores) -> None:
    """Remove what transfers of a daemon that was killed were unpacking; what they fetched stays leased.

    For the start of the daemon, before there are transfers.
    """
    for namespace, lease, held in stores.content.database.read(partial(leases.marked, label=TRANSFER_LABEL)):
        kind, _, snapshotter = held.type.partition("/")
        if kind == "snapshots" and held.id.startswith(EXTRACT_PREFIX):
            with suppress(NotFound):
                stores.snapshots.remove(Place(namespace, snapshotter), held.id, lease)
