"""Migration 0003: a store of the first schema gets its roots as edges, and its images their expiry."""

from __future__ import annotations

import json
import sqlite3
from importlib.resources import as_file, files
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from supervisor.metadata.database import Database

BLOB = "INSERT INTO blobs VALUES ('blue', ?, 1, ?, 0, 0)"
IMAGE = "INSERT INTO images VALUES ('blue', ?, 'm', 'd', 1, '{}', ?, 0, 0)"
SNAPSHOT = "INSERT INTO snapshots VALUES (1, 'blue', 'x', 's', NULL, 'active', 'ready', ?, 0, 0, 0, 0)"


def labels(**values: str) -> str:
    return json.dumps({f"containerd.io/gc.{key.replace('_', '.')}": value for key, value in values.items()})


def before(path: Path) -> None:
    """A store of schema 0001 with rows in it."""
    engine = create_engine(f"sqlite:///{path}")
    with as_file(files("supervisor") / "migrations") as scripts, engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(scripts))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with sqlite3.connect(path) as raw:
        raw.executemany(BLOB, [("kept", labels(root="x")), ("odd", labels(rootish="x")), ("none", "{}")])
        raw.execute(SNAPSHOT, (labels(root_mine="x"),))
        expiring = [("a", labels(expire="1970-01-01T00:00:01Z")), ("b", labels(expire="never")), ("c", "{}")]
        raw.executemany(IMAGE, expiring)
    raw.close()


def test_rows_of_the_schema_before(tmp_path: Path) -> None:
    before(tmp_path / "m.db")
    with Database(tmp_path / "m.db") as database:
        roots = database.read(
            lambda c: c.execute(text("SELECT source_type, source_key FROM edges WHERE kind = 'root'")).all()
        )
        expiring = database.read(lambda c: c.execute(text("SELECT name, expires_at FROM images")).all())
    assert sorted(map(tuple, roots)) == [("content", "kept"), ("content", "odd"), ("snapshot/x", "s")]
    assert sorted(map(tuple, expiring)) == [("a", 1_000_000_000), ("b", None), ("c", None)]
