"""The content of all namespaces: blobs, and writes under way (containerd: core/metadata/content.go).

Rules: contract 6. Every method blocks on disk or store: call it from a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from supervisor.content.store import Status, StoredBlob
from supervisor.errors import AlreadyExists, InvalidArgument, NotFound
from supervisor.metadata import ingests, leases
from supervisor.metadata.blobs import Blobs
from supervisor.metadata.content_ingest import Ingest
from supervisor.model import digest as digests
from supervisor.model.digest import Digest
from supervisor.model.filters import Filter, Operator, Selector
from supervisor.model.identifiers import Namespace


class ContentStore(Blobs):
    """Blobs and ingests as namespaces see them."""

    def status(self, namespace: Namespace, ref: str) -> Status:
        """How far the ingest is; raises NotFound, also for one that shares a blob."""
        this = (Selector(("ref",), Operator.EQUAL, ref),)
        known = self.database.read(lambda c: ingests.refs(c, namespace, (this,)))
        for status in self._statuses(namespace, known):
            return status
        raise NotFound(f'could not get status for ref "{ref}": ingest in namespace {namespace!r}')

    def statuses(self, namespace: Namespace, filters: Sequence[Filter] = ()) -> list[Status]:
        """The namespace's ingests that pass the filters; those that share a blob are left out."""
        known = self.database.read(lambda c: ingests.refs(c, namespace, filters))
        return list(self._statuses(namespace, known))

    def abort(self, namespace: Namespace, ref: str, lease_id: str | None = None) -> None:
        """Remove an ingest with its bytes, also under the hands of its writer; raises NotFound."""
        shared = self.database.write(lambda tx: ingests.closed(tx, namespace, ref, lease_id))
        with suppress(NotFound):
            self.files.abort(ingests.stored_ref(namespace, ref))
        if shared is not None:
            self.collect(shared)

    def open_ingest(
        self,
        namespace: Namespace,
        ref: str,
        lease_id: str | None = None,
        *,
        total: int = 0,
        expected: str = "",
    ) -> Ingest:
        """Open a ref for writing, new or where it stands.

        Raises InvalidArgument without a ref, AlreadyExists when the namespace has `expected` already
        (the lease holds it then), NotFound for an unknown lease, Unavailable while the ref is open.
        """
        if not ref:
            raise InvalidArgument("a write must name a ref")
        if expected and self.has(namespace, expected) and self.hold(namespace, expected, lease_id):
            raise AlreadyExists(f"content {expected} in namespace {namespace!r}")
        shared = self._share(namespace, ref, lease_id, total, expected)
        return shared or self._open_own(namespace, ref, lease_id, total)

    def _statuses(self, namespace: Namespace, refs: Iterable[str]) -> Iterator[Status]:
        for ref in refs:
            with suppress(NotFound):
                found = self.files.status(ingests.stored_ref(namespace, ref))
                yield Status(ref, found.offset, found.total, found.started_at, found.updated_at)

    def _share(
        self, namespace: Namespace, ref: str, lease_id: str | None, total: int, expected: str
    ) -> Ingest | None:
        """An ingest that needs no bytes, if another namespace's blob can stand for them."""
        digest = _valid(expected)
        if digest is None:
            return None
        with self.files.exclusive(digest):
            size = self.shareable_size(digest)
            if size is None or total not in (0, size):
                return None
            self.database.write(
                lambda tx: ingests.opened(tx, namespace, ref, lease_id, total=total, shares=digest)
            )
        return Ingest(self, namespace, ref, lease_id, StoredBlob(digest, size))

    def _open_own(self, namespace: Namespace, ref: str, lease_id: str | None, total: int) -> Ingest:
        """The folder first, then the record: a folder alone is collected at start, and never resumed."""
        self.database.read(lambda c: leases.check(c, namespace, lease_id))
        writer = self.files.writer(ingests.stored_ref(namespace, ref), total)
        try:
            if not self.database.read(lambda c: ingests.known(c, namespace, ref)):
                writer.start_over(total)  # what lies there outlived its record, by a deleted namespace
            self.database.write(
                lambda tx: ingests.opened(tx, namespace, ref, lease_id, total=total, shares=None)
            )
        except BaseException:
            writer.close()
            raise
        return Ingest(self, namespace, ref, lease_id, writer)


def _valid(expected: str) -> Digest | None:
    """`expected` as a digest; opening does not check it, so what is malformed is just not to be found."""
    try:
        return digests.digest(expected)
    except InvalidArgument:
        return None
