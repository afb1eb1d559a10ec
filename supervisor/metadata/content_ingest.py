"""An open ingest of a namespace, from its first byte to its commit. Rules: contract 6.3 to 6.5.

It is one of two: a writer's own bytes on their way in, or, with no bytes sent, a blob of another
namespace that stands for them; the latter becomes the former once the writer sends bytes after all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from supervisor.content.store import Status, StoredBlob, Writer
from supervisor.errors import AlreadyExists, FailedPrecondition, NotFound, SupervisorError
from supervisor.metadata import content, edges, ingests, leases
from supervisor.metadata.blobs import Blobs
from supervisor.metadata.database import Transaction
from supervisor.model.digest import Digest
from supervisor.model.identifiers import Namespace, check_labels
from supervisor.model.instant import now

COPY_SIZE = 1 << 20

log = logging.getLogger(__name__)


class Ingest:
    """A ref held open for one writer; close it, or commit."""

    def __init__(
        self, blobs: Blobs, namespace: Namespace, ref: str, lease_id: str | None, source: Writer | StoredBlob
    ) -> None:
        """Hold `source`: the writer of the ref's own bytes, or the blob that stands for them."""
        self._blobs = blobs
        self._namespace = namespace
        self._ref = ref
        self._lease_id = lease_id
        self._source = source
        self._opened_at = now()

    def status(self) -> Status:
        """Offset and times as they stand now, under the ref that the client knows."""
        if isinstance(self._source, StoredBlob):
            return Status(self._ref, self._source.size, 0, self._opened_at, self._opened_at)
        return replace(self._source.status(), ref=self._ref)

    def digest(self) -> Digest:
        """The digest of the bytes stored so far."""
        if isinstance(self._source, StoredBlob):
            return self._source.digest
        return self._source.digest()

    def append(self, data: bytes) -> None:
        """Store `data` behind what is there; shared bytes are copied first."""
        if isinstance(self._source, StoredBlob):
            self._unshare(self._source, keep=True)
        self._writer().append(data)

    def reader(self) -> BinaryIO:
        """The bytes, also those yet to come, as a file to read; close it."""
        if isinstance(self._source, StoredBlob):
            return self._blobs.files.open(self._source.digest)
        return self._source.reader()

    def truncate(self) -> None:
        """Forget all bytes and start from zero."""
        if isinstance(self._source, StoredBlob):
            self._unshare(self._source, keep=False)
        self._writer().truncate()

    def give_up_if_recorded(self, expected: str) -> bool:
        """True, and the ingest is removed, when the namespace has the blob `expected` already.

        The lease of the call holds the blob then, as if it had been written.
        """
        if not self._blobs.has(self._namespace, expected):
            return False
        given_up = self._blobs.database.write(lambda tx: self._give_up(tx, expected))
        if given_up:
            self._discard()
        return given_up

    def commit(self, total: int, expected: str, labels: Mapping[str, str], media_type: str = "") -> Digest:
        """Make it a blob of the namespace, durably, and close; answers the digest.

        Raises InvalidArgument for a label, FailedPrecondition when the bytes are not those announced:
        the ingest is kept then. Raises AlreadyExists when the namespace has the blob: it is removed.
        """
        check_labels(labels)
        digest, size = self._sealed(total, expected)
        with self._blobs.files.exclusive(digest):
            existed = self._blobs.has(self._namespace, digest)
            if existed:
                self._blobs.database.write(lambda tx: self._record_end(tx, digest))
            else:
                self._record_blob(StoredBlob(digest, size), labels, media_type)
        self._discard()
        if existed:
            raise AlreadyExists(f"content {digest} in namespace {self._namespace!r}")
        return digest

    def close(self) -> None:
        """Let go of the ref; the ingest stays. Closing twice is fine."""
        if not isinstance(self._source, StoredBlob):
            self._source.close()

    def _writer(self) -> Writer:
        assert not isinstance(self._source, StoredBlob)
        return self._source

    def _sealed(self, total: int, expected: str) -> tuple[Digest, int]:
        if not isinstance(self._source, StoredBlob):
            return self._source.seal(total, expected), self._source.status().offset
        shared = self._source
        if total > 0 and total != shared.size:
            raise FailedPrecondition(
                f"commit of ref {self._ref}: blob {shared.digest} has {shared.size} bytes, not {total}"
            )
        if expected and expected != shared.digest:
            raise FailedPrecondition(
                f"commit of ref {self._ref}: it shares blob {shared.digest}, and {expected} was expected"
            )
        if self._blobs.files.size(shared.digest) != shared.size:
            raise FailedPrecondition(f"commit of ref {self._ref}: the shared bytes are lost; open it again")
        return shared.digest, shared.size

    def _record_blob(self, blob: StoredBlob, labels: Mapping[str, str], media_type: str) -> None:
        """Bytes first, then the record; without the record the bytes go again. The digest's lock is held."""
        try:
            if not isinstance(self._source, StoredBlob):
                self._source.install(blob.digest, replace=not self._blobs.stored(blob))
            self._blobs.database.write(lambda tx: self._record(tx, blob, labels, media_type))
        except BaseException:
            self.close()
            self._blobs.collect_held(blob.digest)
            raise

    def _record(self, tx: Transaction, blob: StoredBlob, labels: Mapping[str, str], media_type: str) -> None:
        if not ingests.known(tx.connection, self._namespace, self._ref):
            raise SupervisorError(
                f"commit of ref {self._ref}: the ingest was aborted meanwhile; write it again"
            )
        self._record_end(tx, blob.digest)
        content.record(tx, self._namespace, blob.digest, blob.size, labels, media_type)

    def _give_up(self, tx: Transaction, expected: str) -> bool:
        """Asked again here: the blob may have been collected since."""
        if content.find(tx.connection, self._namespace, expected) is None:
            return False
        self._record_end(tx, expected)
        return True

    def _record_end(self, tx: Transaction, digest: str) -> None:
        """In the same transaction the lease holds the blob in place of the ingest."""
        leases.attach(tx, self._namespace, self._lease_id, edges.CONTENT, digest)
        with suppress(NotFound):
            ingests.closed(tx, self._namespace, self._ref, self._lease_id)

    def _discard(self) -> None:
        """Remove the ingest's files. Its end is recorded, so what stays after a failure is only rubbish."""
        try:
            if isinstance(self._source, StoredBlob):
                self._discard_unused(self._source)
            else:
                self._source.discard()
        except SupervisorError:
            log.warning("the files of a finished ingest stay until the next start", exc_info=True)

    def _discard_unused(self, shared: StoredBlob) -> None:
        """Remove own bytes of earlier that were not gone on with, and the shared ones if nobody has them."""
        with suppress(NotFound):
            self._blobs.files.abort(ingests.stored_ref(self._namespace, self._ref))
        self._blobs.collect(shared.digest)

    def _unshare(self, shared: StoredBlob, *, keep: bool) -> None:
        """Turn to bytes of our own: a copy of the shared ones, or none."""
        writer = self._blobs.files.writer(ingests.stored_ref(self._namespace, self._ref))
        try:
            writer.start_over(0)
            if keep:
                with self._blobs.files.open(shared.digest) as source:
                    while piece := source.read(COPY_SIZE):
                        writer.append(piece)
            self._blobs.database.write(lambda tx: ingests.unshared(tx, self._namespace, self._ref))
        except BaseException:
            writer.close()
            raise
        self._source = writer
        self._blobs.collect(shared.digest)
