"""`container-supervisor fsck`: a root that no daemon serves, checked, and repaired where that loses nothing.

What it cannot see is what is inside of snapshots: nothing is on record of their files.
"""

from __future__ import annotations

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from supervisor.content.local import LocalStore
from supervisor.errors import NotFound, SupervisorError
from supervisor.metadata.database import Database
from supervisor.recovery import (
    content_checks,
    damage,
    opening,
    reference_checks,
    snapshot_checks,
    store_checks,
)
from supervisor.recovery.aside import Aside
from supervisor.recovery.backups import BEFORE_REPAIR, Backups
from supervisor.recovery.findings import Finding, Report, Workshop
from supervisor.recovery.layout import Layout
from supervisor.recovery.opening import Loss

REPAIR_BACKUPS_KEPT = 3


def check(layout: Layout, *, deep: bool = False, repair: bool = False) -> Report:
    """Check the root, which the caller holds alone; with `repair` do what can be done.

    Raises NotFound when there is no store and nothing else either, FailedPrecondition for a schema of
    another version, and what the store raises when it cannot be read for other reasons than damage.
    """
    report = Report()
    _note_backups(layout, report)
    loss = opening.look(layout)
    if loss is None and not layout.store.exists():
        raise NotFound(f"check {layout.store}: there is no store, and nothing that belongs to one")
    if loss is not None and not _settled(layout, loss, report, repair=repair):
        return report
    store_checks.check_schema(layout)
    store_checks.file(layout, report)
    _objects(layout, report, deep=deep)
    if repair and any(finding.mend for finding in report.findings if not finding.done):
        _repair(layout, report)
    return report


def _note_backups(layout: Layout, report: Report) -> None:
    newest = Backups(layout.backups).newest_good()
    told = "there is no good backup" if newest is None else f"the newest good backup is {newest.told()}"
    report.notes.append(told)


def _settled(layout: Layout, loss: Loss, report: Report, *, repair: bool) -> bool:
    """Note that the store is lost, and whether there is one to check all the same, or now."""
    finding = Finding(
        f"store {layout.store}",
        loss.what,
        plan="put a backup in its place, as the daemon's next start would",
    )
    report.findings.append(finding)
    if not repair:
        if not loss.older:
            report.notes.append("nothing else could be checked without the store")
        return loss.older
    restored = opening.replace(layout, loss)
    if restored is not None:
        finding.done = f"restored {restored.told()}"
    else:
        finding.done = (
            "it is used as it was" if loss.older else "there is no good backup: a new store was begun"
        )
    if not layout.store.exists():
        Database(layout.store).close()
    report.notes.append("what the store does not know is taken up again when the daemon starts")
    return True


def _objects(layout: Layout, report: Report, *, deep: bool) -> None:
    """Everything that the store tells of, on one view of it."""
    files = LocalStore(layout.content)
    kept = layout.replaced.exists() or (layout.opened.exists() and not layout.log.exists())
    with damage.reading(layout.store) as raw:
        engine = create_engine("sqlite://", creator=lambda: raw, poolclass=NullPool)
        with engine.connect() as connection:
            content_checks.blobs(connection, files, report, deep=deep, kept=kept)
            content_checks.writes(connection, files, report, kept=kept)
            snapshot_checks.snapshots(connection, layout, report, kept=kept)
            reference_checks.references(connection, report)


def _repair(layout: Layout, report: Report) -> None:
    """Do all that can be done, after a backup of the store as it is; first what stands in that one's way."""
    database = opening.open_whole(layout)
    try:
        workshop = Workshop(layout, database, Aside(layout.aside))
        for finding in report.findings:
            if finding.urgent:
                finding.repair(workshop)
        if _backed_up(layout, database, report):
            for finding in report.findings:
                if not finding.urgent:
                    finding.repair(workshop)
    finally:
        opening.close_store(layout, database)


def _backed_up(layout: Layout, database: Database, report: Report) -> bool:
    try:
        made = Backups(layout.backups).make(database.copy_to, BEFORE_REPAIR, REPAIR_BACKUPS_KEPT)
    except SupervisorError as error:
        report.notes.append(f"nothing was repaired, since no backup could be made first: {error}")
        return False
    report.notes.append(f"the store as it was before the repair is in {made.path}")
    return True
