"""The store's file by itself: whole, of this version's schema, with all its tables, indexes and triggers."""

from __future__ import annotations

import sqlite3
import tempfile
from functools import partial
from pathlib import Path

from supervisor.errors import FailedPrecondition
from supervisor.metadata import migrate
from supervisor.metadata.database import Database
from supervisor.metadata.statements import driver
from supervisor.recovery import damage
from supervisor.recovery.findings import Finding, Report, Workshop
from supervisor.recovery.layout import Layout

_SCHEMA = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"

Schema = dict[tuple[str, str], str]


def check_schema(layout: Layout) -> None:
    """Raise FailedPrecondition unless the store has the schema of this version."""
    have, own = damage.revision(layout.store), max(migrate.revisions())
    if have != own:
        advice = "start the daemon, which migrates it" if (have or "") < own else "install the newer version"
        raise FailedPrecondition(
            f"check {layout.store}: it has schema {have}, and this version is for {own}; {advice}"
        )


def file(layout: Layout, report: Report) -> None:
    """Hold indexes against tables, and the schema against that of a new store; the file can be read."""
    wrong = damage.found_in(layout.store, thorough=True)
    if wrong:
        problem, plan = "; ".join(wrong), "build its indexes anew"
        finding = Finding(f"store {layout.store}", problem, plan=plan, mend=_reindex, urgent=True)
        report.findings.append(finding)
    with damage.reading(layout.store) as connection:
        have = _schema(connection)
    for (kind, name), statement in sorted(_own_schema().items()):
        if (kind, name) not in have:
            problem, plan = "is missing in the store's schema", "make it"
            making = partial(_make, statement=statement)
            report.findings.append(Finding(f"{kind} {name}", problem, plan=plan, mend=making))
        elif have[kind, name] != statement:
            problem, advice = (
                "is another one in the store's schema",
                "restore a backup, and please report this",
            )
            report.findings.append(Finding(f"{kind} {name}", problem, then=advice))


def _schema(connection: sqlite3.Connection) -> Schema:
    return {(kind, name): " ".join(sql.split()) for kind, name, sql in connection.execute(_SCHEMA)}


def _own_schema() -> Schema:
    """That of a store that this version makes."""
    with (
        tempfile.TemporaryDirectory(prefix="cs-fsck-") as folder,
        Database(Path(folder) / "metadata.db") as new,
    ):
        return new.read(lambda connection: _schema(driver(connection)))


def _reindex(workshop: Workshop) -> str:
    workshop.database.write(lambda tx: driver(tx.connection).execute("REINDEX"))
    return "its indexes were built anew"


def _make(workshop: Workshop, statement: str) -> str:
    workshop.database.write(lambda tx: driver(tx.connection).execute(statement))
    return "made"
