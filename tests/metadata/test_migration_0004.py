"""Migration 0004: a store of the schema before gets sandboxes and mounts, whose labels are rows too."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from supervisor.metadata import namespaces, sandboxes
from supervisor.metadata.database import Database
from supervisor.model.container import Runtime
from supervisor.model.identifiers import Namespace
from supervisor.model.sandbox import Sandbox
from tests.metadata.migrating import store_of

BLUE = Namespace("blue")
LABELS = text("SELECT type, key, name, value FROM labels ORDER BY 1, 2, 3")


def test_a_store_of_the_schema_before(tmp_path: Path) -> None:
    with store_of(tmp_path / "m.db", "0003") as raw:
        raw.execute("""INSERT INTO namespaces VALUES ('blue', '{"a":"1"}')""")
    with Database(tmp_path / "m.db") as database:
        assert database.read(lambda c: namespaces.get(c, "blue")) == {"a": "1"}
        made = Sandbox("s", Runtime("r"), labels={"l": "1", "m": "2"})
        database.write(lambda tx: sandboxes.create(tx, BLUE, made))
        changed = Sandbox("s", Runtime("r"), labels={"l": "3"})
        database.write(lambda tx: sandboxes.change(tx, BLUE, changed))
        rows = database.read(lambda c: c.execute(LABELS).all())
        assert [tuple(row) for row in rows] == [("sandbox", "s", "l", "3")]
        database.write(lambda tx: sandboxes.remove(tx, BLUE, "s"))
        assert database.read(lambda c: c.execute(LABELS).all()) == []
