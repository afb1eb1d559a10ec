"""Blobs of namespaces: records and files kept agreed (containerd: core/metadata/content.go).

Rules: contract 6. The order of durability: a blob is whole on disk before it is recorded, and it is
no longer recorded before its file goes. So a crash leaves at worst a file that nobody knows, which
the next start collects. Whoever decides about a blob's file holds that digest's lock meanwhile.

A record whose file is missing or cut short is set aside: it acts as absent, so that writing the
blob again heals it, and it is whole again should the file come back.

Every method blocks on disk or store: call it from a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import BinaryIO

from supervisor.content.local import LocalStore
from supervisor.content.store import Info, StoredBlob
from supervisor.errors import NotFound
from supervisor.metadata import content
from supervisor.metadata.database import Database
from supervisor.model.digest import Digest
from supervisor.model.fieldmask import parse_mask
from supervisor.model.filters import Filter
from supervisor.model.identifiers import Namespace


class Sharing(Enum):
    """Whether a namespace may have a blob of another one without sending its bytes (contract 6.5)."""

    SHARED = "shared"
    ISOLATED = "isolated"


class Blobs:
    """What namespaces have, and what they may have of each other."""

    def __init__(self, database: Database, files: LocalStore, sharing: Sharing = Sharing.SHARED) -> None:
        """Join the records of `database` with the bytes of `files`."""
        self.database = database
        self.files = files
        self.sharing = sharing

    def info(self, namespace: Namespace, digest: Digest) -> Info:
        """What the namespace knows of a blob; raises NotFound."""
        found = self.database.read(lambda c: content.get(c, namespace, digest))
        if not self._is_whole(found):
            raise NotFound(
                f"content {digest} in namespace {namespace!r}: recorded with {found.size} bytes, but its"
                " file is missing or has another size; pull or write it again"
            )
        return found

    def has(self, namespace: Namespace, digest: str) -> bool:
        """Whether the namespace has the blob."""
        found = self.database.read(lambda c: content.find(c, namespace, digest))
        return found is not None and self._is_whole(found)

    def infos(self, namespace: Namespace, filters: Sequence[Filter] = ()) -> list[Info]:
        """The namespace's blobs that pass the filters, in byte order of their digests."""
        found = self.database.read(lambda c: content.matching(c, namespace, filters))
        return [info for info in found if self._is_whole(info)]

    def open_blob(self, namespace: Namespace, digest: Digest) -> tuple[BinaryIO, int]:
        """The blob for reading, unbuffered, with its size; raises NotFound. Close it."""
        info = self.info(namespace, digest)
        return self.files.open(digest), info.size

    def update(self, namespace: Namespace, given: Info, paths: Sequence[str] = ()) -> Info:
        """Replace the labels, or those that the mask's paths name; raises NotFound, then InvalidArgument."""
        self.info(namespace, given.digest)
        mask = parse_mask(paths, "content info", fields=("labels",), maps=("labels",))
        return self.database.write(lambda tx: content.update(tx, namespace, given, mask))

    def delete(self, namespace: Namespace, digest: Digest, lease_id: str | None = None) -> None:
        """Drop the namespace's record at once, and the bytes if nobody else has them; raises NotFound."""
        with self.files.exclusive(digest):
            self.database.write(lambda tx: content.forget(tx, namespace, digest, lease_id))
            self.collect_held(digest)

    def hold(self, namespace: Namespace, digest: str, lease_id: str | None) -> bool:
        """Have the lease of a call hold a blob; raises NotFound for an unknown lease.

        False when the blob has been collected meanwhile.
        """
        if lease_id is None:
            return True
        return self.database.write(lambda tx: content.hold(tx, namespace, digest, lease_id))

    def shareable_size(self, digest: Digest) -> int | None:
        """Size of a blob that some namespace shares, None when there is none to be had."""
        isolated = self.sharing is Sharing.ISOLATED
        size = self.database.read(lambda c: content.shareable_size(c, digest, isolated=isolated))
        return size if size is not None and self.files.size(digest) == size else None

    def stored(self, blob: StoredBlob) -> bool:
        """Whether some namespace's bytes are there already; a file that nobody recorded is not trusted."""
        in_use = self.database.read(lambda c: content.in_use(c, blob.digest))
        return in_use and self.files.size(blob.digest) == blob.size

    def collect(self, digest: Digest) -> None:
        """Remove the blob's file unless somebody needs it."""
        with self.files.exclusive(digest):
            self.collect_held(digest)

    def collect_held(self, digest: Digest) -> None:
        """Remove the blob's file unless somebody needs it; the caller holds the digest's lock."""
        if not self.database.read(lambda c: content.in_use(c, digest)):
            self.files.remove(digest)

    def _is_whole(self, info: Info) -> bool:
        return self.files.size(info.digest) == info.size
