"""The writer, the readers, and migrations against the models."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, wait
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from google.protobuf.empty_pb2 import Empty
from sqlalchemy import Connection, insert, select, text

from supervisor.errors import FailedPrecondition, Internal, ResourceExhausted, Unavailable
from supervisor.metadata import namespaces
from supervisor.metadata.database import Database, Transaction
from supervisor.metadata.schema import Base, NamespaceRow
from supervisor.metadata.statements import Prepared
from supervisor.model.identifiers import namespace


def names(database: Database) -> list[str]:
    return [name for name, _ in database.read(namespaces.all_labels)]


def test_the_newest_migration_is_the_models(database: Database) -> None:
    differences = database.read(lambda c: compare_metadata(MigrationContext.configure(c), Base.metadata))
    assert differences == []


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    with Database(tmp_path / "m.db") as database:
        database.write(lambda tx: namespaces.create(tx, namespace("kept"), {"a": "ü"}))
    with Database(tmp_path / "m.db") as database:
        assert database.read(lambda c: namespaces.get(c, "kept")) == {"a": "ü"}


def test_one_failing_write_of_a_batch_does_not_touch_the_others(database: Database) -> None:
    gate = threading.Event()

    def block(tx: Transaction) -> None:
        gate.wait(10)

    def create(name: str) -> Future[None]:
        return database.submit(lambda tx: namespaces.create(tx, namespace(name), {}))

    first = database.submit(block)  # while it runs, the rest gathers into one batch
    futures = [create("a"), create("a"), create("b")]
    gate.set()
    wait([first, *futures], timeout=10)
    assert [future.exception() is None for future in futures] == [True, False, True]
    assert names(database) == ["a", "b"]


def test_a_broken_rule_of_the_schema_is_an_internal_error(database: Database) -> None:
    with pytest.raises(Internal, match="report"):
        database.write(
            lambda tx: [tx.execute(insert(NamespaceRow), {"name": "x", "labels": {}}) for _ in "ab"]
        )


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable):
        database.read(lambda connection: connection.execute(text("DELETE FROM namespaces")))


def test_a_reader_sees_one_state(database: Database) -> None:
    def read(connection: object) -> tuple[int, int]:
        query = select(NamespaceRow.name)
        before = len(connection.execute(query).all())  # type: ignore[attr-defined]
        database.write(lambda tx: namespaces.touch(tx, namespace("late")))
        return before, len(connection.execute(query).all())  # type: ignore[attr-defined]

    assert database.read(read) == (0, 0)
    assert names(database) == ["late"]


def test_a_closed_store_refuses_writes(tmp_path: Path) -> None:
    database = Database(tmp_path / "m.db")
    database.close()
    with pytest.raises(Unavailable):
        database.submit(lambda tx: None)


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with Database(tmp_path / "m.db") as database:
        database.write(lambda tx: tx.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(FailedPrecondition, match="newer version"):
        Database(tmp_path / "m.db")


def test_the_file_and_its_log_are_for_the_daemon_only(database: Database, tmp_path: Path) -> None:
    database.write(lambda tx: namespaces.touch(tx, namespace("blue")))
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("metadata.db*")}
    assert modes == dict.fromkeys(("metadata.db", "metadata.db-wal", "metadata.db-shm"), 0o600)


def test_a_namespace_that_goes_and_comes_in_one_commit(database: Database) -> None:
    """What is known of namespaces is not believed beyond a removal or a write that failed."""
    blue, gate = namespace("blue"), threading.Event()
    database.write(lambda tx: namespaces.touch(tx, blue))

    def block(tx: Transaction) -> None:
        gate.wait(10)

    def fail(tx: Transaction) -> None:
        namespaces.touch(tx, namespace("never"))
        raise Internal("no")

    batch = [database.submit(block), database.submit(lambda tx: namespaces.remove(tx, "blue"))]
    batch += [database.submit(lambda tx: namespaces.touch(tx, blue)), database.submit(fail)]
    gate.set()
    wait(batch, timeout=10)
    assert names(database) == ["blue"]
    database.write(lambda tx: namespaces.remove(tx, "blue"))
    for name in (blue, namespace("never")):
        database.write(lambda tx, name=name: namespaces.touch(tx, name))
    assert names(database) == ["blue", "never"]


def test_reads_of_one_call_see_one_state_by_prepared_statements_too(database: Database) -> None:
    query = Prepared(select(NamespaceRow.name))

    def read(connection: Connection) -> tuple[int, int]:
        before = len(query.rows(connection, {}))
        database.write(lambda tx: namespaces.touch(tx, namespace("late")))
        return before, len(query.rows(connection, {}))

    assert database.read(read) == (0, 0)


def test_a_full_disk_fails_all_writes_of_the_commit_and_says_why(database: Database) -> None:
    gate = threading.Event()

    def fill(tx: Transaction) -> None:
        gate.wait(10)
        tx.execute(text("PRAGMA max_page_count = 1"))
        for number in range(10_000):
            namespaces.create(tx, namespace(f"n{number}"), {"l": "x" * 4000})

    batch = [database.submit(fill), database.submit(lambda tx: namespaces.create(tx, namespace("other"), {}))]
    gate.set()
    wait(batch, timeout=60)
    assert isinstance(batch[0].exception(), ResourceExhausted)
    database.write(lambda tx: tx.execute(text("PRAGMA max_page_count = 1000000")))
    assert ("other" in names(database)) is (batch[1].exception() is None)


def _synchronous(tx: Transaction) -> int:
    return tx.connection.exec_driver_sql("PRAGMA synchronous").scalar_one()


def test_only_writes_that_need_not_outlive_the_power_are_not_waited_for(database: Database) -> None:
    """An answered write is on disk: FULL is 2, NORMAL is 1."""
    assert database.submit(_synchronous).result(10) == 2
    assert database.submit(_synchronous, durable=False).result(10) == 1
    assert database.submit(_synchronous).result(10) == 2


def test_a_durable_write_has_its_whole_commit_waited_for(database: Database) -> None:
    gate = threading.Event()
    first = database.submit(lambda tx: gate.wait(10))  # while it runs, the rest gathers into one batch
    futures = [database.submit(_synchronous, durable=durable) for durable in (True, False, True)]
    gate.set()
    wait([first, *futures], timeout=10)
    assert [future.result() for future in futures] == [2, 2, 2]


def test_what_is_first_in_line_and_need_not_be_on_disk_does_not_wait_for_it(database: Database) -> None:
    running, gate = threading.Event(), threading.Event()
    database.submit(lambda tx: running.set() or gate.wait(10))
    running.wait(10)
    futures = [database.submit(_synchronous, durable=durable) for durable in (False, False, True, False)]
    gate.set()
    wait(futures, timeout=10)
    assert [future.result() for future in futures] == [1, 1, 2, 2]


def test_what_waits_while_the_store_closes_is_written(tmp_path: Path) -> None:
    running, gate = threading.Event(), threading.Event()
    with Database(tmp_path / "m.db") as database:
        database.submit(lambda tx: running.set() or gate.wait(10))
        running.wait(10)
        note = database.submit(_synchronous, durable=False)
        write = database.submit(_synchronous)
        threading.Timer(0.1, gate.set).start()
    assert (note.result(0), write.result(0)) == (1, 2)


def test_no_event_is_told_that_a_power_failure_could_undo(database: Database) -> None:
    told: list[object] = []
    database.tell(told.extend)
    note = database.submit(lambda tx: tx.emit("ns", "/a/b", Empty()), durable=False)
    assert isinstance(note.exception(10), AssertionError)
    assert not told


NOTE = """
import os, sys
from pathlib import Path
from supervisor.metadata import namespaces
from supervisor.metadata.database import Database
database = Database(Path(sys.argv[1]))
database.submit(lambda tx: namespaces.touch(tx, "kept"), durable=False).result()
os.kill(os.getpid(), 9)
"""


def test_what_is_not_durable_outlives_a_killed_daemon(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", NOTE, str(tmp_path / "m.db")])
    assert killed.returncode == -signal.SIGKILL
    with Database(tmp_path / "m.db") as database:
        assert names(database) == ["kept"]
