"""Labels as rows: migration 0002, and the triggers that keep them agreed with the objects' own."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from supervisor.errors import InvalidArgument
from supervisor.metadata import leases
from supervisor.metadata.database import Database
from supervisor.metadata.schema import Base
from supervisor.model.identifiers import Namespace
from supervisor.model.lease import Lease
from tests.metadata.migrating import store_of

ODD = {"a.b": "1", 'q"uote': "ü\n\\u0000", "back\\slash": "{}", "k" * 100: "v" * 3000}
"""Keys and values that a JSON path or a careless query would trip over."""

INSERTS = {
    "containers": (
        "INSERT INTO containers VALUES ('blue', 'k', '', 'r', NULL, NULL, '', '', '', ?, '{}', 0, 0)"
    ),
    "images": (
        "INSERT INTO images (namespace, name, media_type, digest, size, annotations, labels, created_at,"
        " updated_at) VALUES ('blue', 'k', 'm', 'd', 1, '{\"note\":\"x\"}', ?, 0, 0)"
    ),
    "blobs": "INSERT INTO blobs VALUES ('blue', 'k', 1, ?, 0, 0)",
    "snapshots": "INSERT INTO snapshots VALUES (1, 'blue', 'o', 'k', NULL, 'active', 'ready', ?, 0, 0, 0, 0)",
    "leases": "INSERT INTO leases VALUES ('blue', 'k', ?, 0, NULL)",
}
TYPES = {
    "containers": "container",
    "images": "image",
    "blobs": "content",
    "snapshots": "snapshot/o",
    "leases": "lease",
}
KEYS = {"containers": "id", "images": "name", "blobs": "digest", "snapshots": "key", "leases": "id"}


def rows(connection: sqlite3.Connection, node_type: str, key: str = "k") -> dict[str, str]:
    query = "SELECT name, value FROM labels WHERE namespace = 'blue' AND type = ? AND key = ?"
    return dict(connection.execute(query, (node_type, key)).fetchall())


def test_migration_0002_makes_rows_of_the_labels_there_are(tmp_path: Path) -> None:
    with store_of(tmp_path / "m.db", "0001") as old:
        for table, statement in INSERTS.items():
            if table == "images":
                old.execute(statement, (json.dumps(ODD, ensure_ascii=False),))
            else:
                old.execute(statement, (json.dumps({"from": table}),))
        old.execute("INSERT INTO events VALUES (7, -5, 'blue', '/t', NULL)")
    Database(tmp_path / "m.db").close()
    with sqlite3.connect(tmp_path / "m.db") as new:
        for table, node_type in TYPES.items():
            assert rows(new, node_type) == (ODD if table == "images" else {"from": table})
        assert rows(new, "annotation") == {"note": "x"}
        (recorded,) = new.execute("SELECT recorded_at FROM events").fetchone()
        assert recorded > 10**18
    new.close()


@pytest.fixture
def raw(tmp_path: Path) -> sqlite3.Connection:
    Database(tmp_path / "m.db").close()
    return sqlite3.connect(tmp_path / "m.db")


@pytest.mark.parametrize("table", INSERTS)
def test_rows_follow_the_object(raw: sqlite3.Connection, table: str) -> None:
    node_type = TYPES[table]
    raw.execute(INSERTS[table], (json.dumps(ODD),))
    assert rows(raw, node_type) == ODD
    raw.execute(f"UPDATE {table} SET labels = ?", (json.dumps({"a.b": "2", "new": "1"}),))
    assert rows(raw, node_type) == {"a.b": "2", "new": "1"}
    raw.execute(f'UPDATE {table} SET "{KEYS[table]}" = ?', ("renamed",))
    assert (rows(raw, node_type), rows(raw, node_type, "renamed")) == ({}, {"a.b": "2", "new": "1"})
    raw.execute(f"DELETE FROM {table}")
    assert raw.execute("SELECT * FROM labels").fetchall() == []
    raw.close()


def test_every_table_with_labels_has_the_triggers(database: Database) -> None:
    """Also one that a later migration adds or makes anew."""
    found = set(database.read(lambda c: c.execute(text("SELECT name FROM sqlite_master")).scalars()))
    labelled = {f"{t.name}_labels" for t in Base.metadata.sorted_tables if "labels" in t.columns}
    labelled = labelled - {"namespaces_labels"} | {"images_annotations"}
    assert len(labelled) >= 6
    assert {f"{name}_{verb}" for name in labelled for verb in ("insert", "update", "delete")} <= found


def test_old_labels_are_found_by_index(raw: sqlite3.Connection) -> None:
    (sql,) = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'containers_labels_delete'").fetchone()
    delete = sql.partition("BEGIN ")[2].removesuffix("; END").replace("OLD.labels", "'{}'")
    for column in ("namespace", "id"):
        delete = delete.replace(f"OLD.{column}", "'x'")
    plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {delete}")]
    assert plan[0].startswith(
        "SEARCH labels USING PRIMARY KEY (namespace=? AND type=? AND name=? AND value=?"
    )
    raw.close()


def test_a_nul_in_a_label_is_refused(database: Database) -> None:
    """SQLite's JSON would end the text there, and filters would see another label than clients do."""
    for labels in ({"a\0b": "1"}, {"a": "1\0"}):
        lease = Lease("l", labels)
        with pytest.raises(InvalidArgument, match="NUL"):
            database.write(lambda tx, lease=lease: leases.create(tx, Namespace("blue"), lease))
