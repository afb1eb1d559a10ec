"""Whether a store's file is whole, as SQLite tells; looking changes nothing.

A file that no log lies beside is opened as one that never changes, so that SQLite makes none; otherwise
as a reader, who may look on while a daemon writes, and who never checkpoints.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from supervisor.errors import DataLoss
from supervisor.metadata.database import translating

COMPLAINTS = 5
"""How many of SQLite's complaints about one file are told."""


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads the file; raises DataLoss when it is damaged, else as the store does."""
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    name = f"file:{quote(str(path))}?{how}"
    with translating(f"read the store {path}"), closing(sqlite3.connect(name, uri=True)) as connection:
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        yield connection


def found_in(path: Path, *, thorough: bool = False) -> list[str]:
    """What is wrong with the file, none when it is whole; `thorough` also holds indexes against tables."""
    check = "integrity_check" if thorough else "quick_check"
    try:
        with reading(path) as connection:
            told = [str(row[0]) for row in connection.execute(f"PRAGMA {check}({COMPLAINTS})")]
    except DataLoss as error:
        return [str(error.__cause__)]
    return [] if told == ["ok"] else [" ".join(line.split()) for line in told]


def revision(path: Path) -> str | None:
    """The schema of the file, None when it has none, being new or empty; raises as `reading`."""
    with reading(path) as connection:
        if not _has(connection, "alembic_version"):
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def last_event(path: Path) -> int:
    """The number of the newest event that the file knows of: what tells the later of two; as `reading`."""
    with reading(path) as connection:
        if not _has(connection, "sqlite_sequence"):
            return 0
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        return 0 if row is None else int(row[0])


def _has(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
    return found.fetchone() is not None
