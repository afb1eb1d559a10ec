"""After another store took a lost one's place: what is on disk, and what runs, is taken up again.

    a blob without a row         its digest is checked; it becomes one of the namespace `recovered`, kept
                                 by a lease for a day, where pulls into all namespaces find it
    one that is not its digest   set aside
    an ingest without a row      becomes one again, for a day: whoever wrote it can go on
    a snapshot without a row     set aside: neither its name nor its parent is on disk
    a task without a row         see `supervisor.recovery.running`

Runs before anything is served. Each step can be repeated; the mark goes when all is done.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

from supervisor.content.local import LocalStore
from supervisor.content.store import StoredBlob
from supervisor.errors import AlreadyExists, SupervisorError
from supervisor.metadata import content, ingests, leases, snapshot_rows
from supervisor.metadata.database import Database, Transaction
from supervisor.model import digest as digests
from supervisor.model import instant
from supervisor.model.digest import Digest
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.lease import EXPIRE_LABEL, Lease, Resource
from supervisor.recovery import running
from supervisor.recovery.aside import Aside, stamp
from supervisor.recovery.layout import Layout

RECOVERED = Namespace("recovered")
"""Holds what nobody knows the namespace of any more."""

LIFETIME = 24 * 3600 * SECOND
BATCH = 64
"""Blobs that share a commit."""

READ_SIZE = 1 << 20

log = logging.getLogger(__name__)


def reconcile(layout: Layout, database: Database, files: LocalStore | None, bundles: Path) -> None:
    """Take all up that the store does not know, if it took a lost one's place; else do nothing.

    What cannot be taken up is logged, and tried again at the next start: nothing is removed for it.
    """
    if not layout.replaced.exists():
        return
    try:
        whole = _take_up(layout, database, files, bundles)
    except (SupervisorError, OSError) as error:
        whole = False
        log.error("taking up what the store does not know: %s", error)
    if not whole:
        log.error("%s stays, since not all could be taken up; the next start tries again", layout.replaced)
        return
    layout.replaced.unlink()
    log.warning("the store agrees with disk and kernel again; `container-supervisor fsck` can tell more")


def _take_up(layout: Layout, database: Database, files: LocalStore | None, bundles: Path) -> bool:
    """Whether all could be: what runs comes first."""
    running.take_up(database, bundles)
    aside = Aside(layout.aside)
    whole = _snapshots(layout, database, aside)
    if files is None:
        return False
    _ingests(database, files)
    return _blobs(database, files, aside) and whole


def is_due(layout: Layout) -> bool:
    """Whether not all was taken up yet, so that nothing may go for want of a row."""
    return layout.replaced.exists()


def matches(path: Path, digest: Digest) -> bool:
    """Whether the bytes of a file have that digest."""
    algorithm, encoded = digests.split(digest)
    running_hash = hashlib.new(algorithm)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(READ_SIZE):
            running_hash.update(piece)
    return running_hash.hexdigest() == encoded


def _snapshots(layout: Layout, database: Database, aside: Aside) -> bool:
    """Set aside what has no row, or one that had not come to have files yet. Whether that went well."""
    whole = True
    for driver in layout.drivers():
        known = database.read(partial(snapshot_rows.ready, snapshotter=driver))
        for number in sorted(layout.numbers(driver) - known):
            path = layout.snapshot(driver, number)
            try:
                target = aside.take(path, f"snapshot {number} of {driver}, of which the store knows nothing")
            except SupervisorError as error:
                whole = False
                log.error("%s", error)
            else:
                log.error("snapshot %d of %s has no row; set aside as %s", number, driver, target)
    return whole


def _ingests(database: Database, files: LocalStore) -> None:
    known = {ingests.stored_ref(space, ref) for space, ref, _ in database.read(ingests.everywhere)}
    for found in files.ingests():
        namespace, parted, ref = found.ref.partition("/1/")
        if found.ref in known or not parted:
            continue
        opened = partial(ingests.opened, namespace=Namespace(namespace), ref=ref, lease_id=None)
        database.write(partial(opened, total=found.total, shares=None))
        log.warning("the write under way %s of namespace %s can be gone on with", ref, namespace)


def _blobs(database: Database, files: LocalStore, aside: Aside) -> bool:
    """Adopt the blobs that no namespace has. Whether each could be adopted, or else set aside."""
    used = database.read(content.digests_in_use)
    unknown = [blob for blob in files.blobs() if blob.digest not in used]
    if not unknown:
        return True
    size = sum(blob.size for blob in unknown)
    log.warning(
        "taking up %d blobs without a row, %d MiB; their digests are checked", len(unknown), size >> 20
    )
    lease = f"recovered-{stamp()}"
    failed = adopted = 0
    remaining = iter(unknown)
    while batch := list(islice(remaining, BATCH)):
        good = []
        for blob in batch:
            whole = _is_whole(files, blob, aside)
            failed += whole is None
            good += [blob] if whole else []
        database.write(partial(_adopt, lease=lease, blobs=good))
        adopted += len(good)
    log.warning("%d blobs are kept for a day by lease %s of namespace %s", adopted, lease, RECOVERED)
    return not failed


def _is_whole(files: LocalStore, blob: StoredBlob, aside: Aside) -> bool | None:
    """Whether a blob is what it is named after; one that is not is set aside, None when that failed."""
    path = files.blob_path(blob.digest)
    try:
        if matches(path, blob.digest):
            return True
        target = aside.take(path, f"blob {blob.digest}, whose bytes have another digest")
    except (SupervisorError, OSError) as error:
        log.error("blob %s cannot be taken up: %s", blob.digest, error)
        return None
    log.error("blob %s is damaged; set aside as %s", blob.digest, target)
    return False


def _adopt(tx: Transaction, lease: str, blobs: list[StoredBlob]) -> None:
    expire = instant.format_rfc3339(Nanoseconds(tx.now + LIFETIME))
    with suppress(AlreadyExists):
        leases.create(tx, RECOVERED, Lease(lease, {EXPIRE_LABEL: expire}))
    for blob in blobs:
        content.record(tx, RECOVERED, blob.digest, blob.size, {})
        leases.add_resource(tx, RECOVERED, lease, Resource("content", blob.digest))
