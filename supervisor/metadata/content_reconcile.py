"""At start: records and files of content that a crash, a disk or a hand made disagree.

    a file without a record        its commit or its deletion was cut off: collected
    a record without its file      reported; it acts as absent until the file is back or written again
    an ingest's folder alone       its end was recorded, or its beginning was not: removed
    an ingest's record alone       dropped

Runs before anything is served, so nobody else is at work.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from supervisor.errors import NotFound, SupervisorError
from supervisor.metadata import content, ingests
from supervisor.metadata.content_store import ContentStore
from supervisor.model.digest import Digest
from supervisor.model.identifiers import Namespace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, and what was done about it."""

    collected: tuple[Digest, ...]
    lost: tuple[tuple[Namespace, Digest], ...]
    ingests_removed: int
    ingests_dropped: tuple[tuple[Namespace, str], ...]


def reconcile(store: ContentStore) -> Report:
    """Bring records and files together; a file that cannot be removed is logged and left."""
    dropped = tuple(_drop_empty_ingests(store))
    kept = frozenset(ingests.stored_ref(n, r) for n, r, _ in store.database.read(ingests.everywhere))
    removed = store.files.sweep(kept)
    report = Report(tuple(_collect(store)), tuple(_lost(store)), removed, dropped)
    for namespace, digest in report.lost:
        log.error(
            "content %s of namespace %s has lost its bytes; it is set aside, pull it again", digest, namespace
        )
    log.info(
        "content: %d files without a record collected, %d records set aside, %d ingests removed",
        len(report.collected),
        len(report.lost),
        removed + len(dropped),
    )
    return report


def _drop_empty_ingests(store: ContentStore) -> Iterator[tuple[Namespace, str]]:
    for namespace, ref, shares in store.database.read(ingests.everywhere):
        if not _has_bytes(store, namespace, ref, shares):
            store.database.write(partial(ingests.closed, namespace=namespace, ref=ref))
            yield namespace, ref


def _has_bytes(store: ContentStore, namespace: Namespace, ref: str, shares: Digest | None) -> bool:
    if shares is not None:
        return store.files.size(shares) is not None
    with suppress(NotFound):
        store.files.status(ingests.stored_ref(namespace, ref))
        return True
    return False


def _collect(store: ContentStore) -> Iterator[Digest]:
    used = store.database.read(content.digests_in_use)
    for blob in list(store.files.blobs()):
        if blob.digest not in used:
            try:
                store.files.remove(blob.digest)
            except SupervisorError:
                log.exception("a blob that no namespace has could not be removed")
            else:
                yield blob.digest


def _lost(store: ContentStore) -> Iterator[tuple[Namespace, Digest]]:
    sizes = {blob.digest: blob.size for blob in store.files.blobs()}
    for namespace, digest, size in store.database.read(content.recorded_sizes):
        if sizes.get(digest) != size:
            yield namespace, digest
