"""Migration 0005: exits of the schema before it keep their rows, and say what is known of a signal."""

from __future__ import annotations

from pathlib import Path

from supervisor.metadata import exits, tasks
from supervisor.metadata.database import Database
from supervisor.model.identifiers import Namespace
from tests.metadata.migrating import store_of

TASK = """
INSERT INTO tasks
VALUES ('blue', 'c', 'stopped', '/b', 'rt', '/s', 'unix:///a', 3, 'ttrpc', 7, '', '', '', 0, 5, 6)
"""
EXIT = """
INSERT INTO exits (namespace, container_id, exec_id, pid, exit_status, exited_at)
VALUES ('blue', 'c', ?, 7, ?, 9)
"""


def test_rows_of_the_schema_before(tmp_path: Path) -> None:
    with store_of(tmp_path / "m.db", "0004") as raw:
        raw.execute(TASK)
        raw.executemany(EXIT, [("", 137), ("e", 3)])
    with Database(tmp_path / "m.db") as database:
        assert [task.id for task in database.read(tasks.find_all)] == ["c"]
        second, first = database.read(lambda c: exits.find(c, Namespace("blue"), "c", 9, first_only=False))
    assert (first.exit.status, first.signal, first.started_at, first.deleted) == (137, 9, 6, False)
    assert (second.exec_id, second.signal, second.started_at, second.error) == ("e", 0, None, "")
