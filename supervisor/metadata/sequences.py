"""Numbers that are given out once: continued behind those that a lost store may have given out.

Snapshots' numbers name folders, events' and exits' numbers are clients' cursors: one that came back would
mean something else than whoever has it believes.
"""

from __future__ import annotations

from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import EventRow, ExitRow, MountRow, SnapshotRow
from supervisor.metadata.statements import driver

GAP = 1_000_000
"""More than a store gives out between two backups."""


def leave_a_gap(tx: Transaction, highest_folder: int, seconds: int) -> None:
    """Go on behind `highest_folder` for snapshots, and a gap further for others.

    `seconds` since 1970 are where events go on at least: a new store has no other way to be ahead of
    one that nothing is known of.
    """
    have = dict(driver(tx.connection).execute("SELECT name, seq FROM sqlite_sequence").fetchall())

    def advance(table: str, at_least: int) -> None:
        found = driver(tx.connection)
        if table in have:
            found.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (at_least, table))
        else:
            found.execute("INSERT INTO sqlite_sequence (seq, name) VALUES (?, ?)", (at_least, table))

    advance(SnapshotRow.__tablename__, highest_folder)
    for row in (ExitRow, MountRow):
        advance(row.__tablename__, have.get(row.__tablename__, 0) + GAP)
    advance(EventRow.__tablename__, max(have.get(EventRow.__tablename__, 0) + GAP, seconds))
