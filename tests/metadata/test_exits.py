"""Exit records: why processes ended, also those of tasks that are gone ("It explains itself")."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from supervisor.api.events.task_pb2 import TaskExecStarted, TaskExit, TaskOOM, TaskStart
from supervisor.errors import NotFound
from supervisor.metadata import exits, namespaces, tasks
from supervisor.metadata.database import Database
from supervisor.model import instant
from supervisor.model.any import Any
from supervisor.model.event import Envelope
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.task import Exit, ExitRecord, ShimRecord, Stdio, TaskRecord, TaskState

NS = Namespace("blue")
ID = ContainerId("c1")
START = instant.now()
TASK = TaskRecord(NS, ID, TaskState.CREATING, "/b", "rt", ShimRecord("/shim"), Stdio())


def later(seconds: float) -> Nanoseconds:
    return Nanoseconds(START + int(seconds * SECOND))


@pytest.fixture(autouse=True)
def task(database: Database) -> None:
    database.write(lambda tx: tasks.begin(tx, TASK))


def tell(
    database: Database, topic: str, message: Message, at: Nanoseconds, signal: int | None = None
) -> bool:
    payload = Any(f"containerd.events.{type(message).__name__}", message.SerializeToString())
    return database.write(lambda tx: tasks.take_event(tx, Envelope(at, NS, topic, payload), signal))


def exited(
    database: Database, status: int, at: Nanoseconds, id_: str = ID, pid: int = 42, signal: int | None = None
) -> bool:
    message = TaskExit(container_id=ID, id=id_, pid=pid, exit_status=status)
    message.exited_at.seconds, message.exited_at.nanos = divmod(at, SECOND)
    return tell(database, "/tasks/exit", message, at, signal)


def record(database: Database, exec_id: str = "") -> ExitRecord:
    return database.read(lambda c: exits.get(c, NS, ID, exec_id))


def remove(database: Database) -> None:
    database.write(lambda tx: tasks.remove(tx, NS, ID))


def test_a_record_outlives_its_task(database: Database) -> None:
    tell(database, "/tasks/start", TaskStart(container_id=ID, pid=42), later(0))
    exited(database, 7, later(3))
    remove(database)
    found = record(database)
    assert (found.exit, found.signal, found.started_at, found.deleted) == (
        Exit(42, 7, later(3)),
        0,
        later(0),
        True,
    )
    assert database.read(lambda c: exits.of(c, NS, ID, "")) is None


def test_a_task_of_the_same_name_does_not_take_the_former_exit_for_its_own(database: Database) -> None:
    exited(database, 7, later(3))
    remove(database)
    database.write(lambda tx: tasks.begin(tx, TASK))
    assert database.read(lambda c: exits.of(c, NS, ID, "")) is None
    exited(database, 8, later(4))
    assert database.read(lambda c: exits.of(c, NS, ID, "")) == Exit(42, 8, later(4))


def test_a_delivery_that_comes_again_after_the_delete_is_dropped(database: Database) -> None:
    assert exited(database, 7, later(3))
    remove(database)
    assert not exited(database, 7, later(3))


@pytest.mark.parametrize(
    ("status", "told", "signal"), [(137, None, 9), (137, 9, 9), (137, 0, 0), (143, None, 15), (255, None, 0)]
)
def test_the_signal_is_what_the_shim_says_else_what_the_status_says(
    database: Database, status: int, told: int | None, signal: int
) -> None:
    exited(database, status, later(1), signal=told)
    assert record(database).signal == signal


@pytest.mark.parametrize("first", ["oom", "exit"])
@pytest.mark.parametrize(("apart", "blamed"), [(0.5, True), (60.0, False)])
def test_want_of_memory_is_blamed_for_a_kill_at_its_time(
    database: Database, first: str, apart: float, blamed: bool
) -> None:
    """The two events come from different sources, in either order."""
    if first == "exit":
        exited(database, 137, later(10))
    tell(
        database, "/tasks/oom", TaskOOM(container_id=ID), later(10 + apart if first == "exit" else 10 - apart)
    )
    if first == "oom":
        exited(database, 137, later(10))
    assert record(database).oom_killed is blamed


def test_want_of_memory_is_not_blamed_for_other_ends(database: Database) -> None:
    tell(database, "/tasks/oom", TaskOOM(container_id=ID), later(1))
    exited(database, 1, later(1))
    assert not record(database).oom_killed


def test_an_exec_has_its_own_start(database: Database) -> None:
    tell(database, "/tasks/start", TaskStart(container_id=ID, pid=42), later(0))
    tell(database, "/tasks/exec-started", TaskExecStarted(container_id=ID, exec_id="e", pid=43), later(5))
    exited(database, 3, later(6), id_="e", pid=43)
    assert record(database, "e").started_at == later(5)
    database.write(lambda tx: exits.retire(tx, NS, ID, "e"))
    assert record(database, "e").deleted
    assert database.read(lambda c: exits.of(c, NS, ID, "e")) is None


def test_a_process_that_never_ran_has_its_error(database: Database) -> None:
    database.write(lambda tx: exits.failed(tx, NS, ID, "", "no such file" + "x" * 10_000))
    found = record(database)
    assert (found.exit.pid, found.exit.status, found.deleted) == (0, 255, True)
    assert (found.error[:12], len(found.error)) == ("no such file", exits.MAX_ERROR)
    assert database.read(lambda c: exits.of(c, NS, ID, "")) is None


def test_a_lost_task_says_that_its_end_is_a_guess(database: Database) -> None:
    database.write(lambda tx: tasks.lost(tx, NS, ID, Exit(42, 137, later(1)), "its shim died"))
    found = record(database)
    assert (found.error, found.exit.status, found.deleted) == ("its shim died", 137, True)


def test_lists_are_newest_first_and_bounded(database: Database) -> None:
    for number in range(4):
        exited(database, number, later(number), pid=100 + number)
    exited(database, 9, later(9), id_="e", pid=200)

    def listed(id_: str, most: int, *, first_only: bool) -> list[int]:
        found = database.read(lambda c: exits.find(c, NS, id_, most, first_only=first_only))
        return [one.exit.status for one in found]

    assert listed("", 3, first_only=False) == [9, 3, 2]
    assert listed(ID, 10, first_only=True) == [3, 2, 1, 0]
    assert listed("other", 10, first_only=False) == []


def test_trimming_by_number_and_age_spares_tasks_that_are_there(database: Database) -> None:
    exited(database, 1, later(-3600), pid=1)
    exited(database, 2, later(-1), pid=2)
    remove(database)
    exited(database, 3, later(0), pid=3)  # of a task that is gone: past from the start
    database.write(lambda tx: tasks.begin(tx, TASK))
    exited(database, 4, later(-7200), pid=4)

    def kept(keep: int, seconds: float) -> list[int]:
        database.write(lambda tx: exits.trim(tx, exits.Retention(keep, seconds)))
        return [
            one.exit.status for one in database.read(lambda c: exits.find(c, NS, "", 10, first_only=False))
        ]

    assert kept(10, 86_400) == [4, 3, 2, 1]
    assert kept(10, 1800) == [4, 3, 2]
    assert kept(1, 86_400) == [4, 3]
    assert kept(0, 86_400) == [4]


def test_records_of_former_tasks_go_with_their_namespace(database: Database) -> None:
    exited(database, 1, later(0))
    remove(database)
    database.write(lambda tx: namespaces.remove(tx, NS))
    with pytest.raises(NotFound):
        record(database)


def test_an_unknown_process_has_no_record(database: Database) -> None:
    with pytest.raises(NotFound, match="exec e of container c1"):
        record(database, "e")
