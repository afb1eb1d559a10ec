"""Rows of tasks and exits: architecture, "The order of durability"."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.api.events.task_pb2 import TaskDelete, TaskExit, TaskStart
from supervisor.errors import AlreadyExists, InvalidArgument, NotFound
from supervisor.metadata import exits, tasks
from supervisor.metadata.database import Database
from supervisor.model.any import Any
from supervisor.model.event import Envelope
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.instant import Nanoseconds
from supervisor.model.task import Exit, ShimRecord, Stdio, TaskRecord, TaskState

NS = Namespace("blue")
ID = ContainerId("c1")
END = Exit(pid=42, status=7, exited_at=Nanoseconds(1_700_000_000_123_456_789))
SHIM = ShimRecord("/shim", "unix:///s", 3, "ttrpc")
TASK = TaskRecord(NS, ID, TaskState.CREATING, "/b", "rt", ShimRecord("/shim"), Stdio("i", "o", "e", True))


@pytest.fixture
def told(database: Database) -> list[Envelope]:
    events: list[Envelope] = []
    database.tell(events.extend)
    database.write(lambda tx: tasks.begin(tx, TASK))
    return events


def only(database: Database) -> TaskRecord:
    (record,) = database.read(tasks.find_all)
    return record


def exit_event(end: Exit = END, id_: str = ID) -> Envelope:
    message = TaskExit(container_id=ID, id=id_, pid=end.pid, exit_status=end.status)
    message.exited_at.seconds, message.exited_at.nanos = divmod(end.exited_at, 10**9)
    payload = Any("containerd.events.TaskExit", message.SerializeToString())
    return Envelope(Nanoseconds(5), NS, "/tasks/exit", payload)


def test_a_task_is_stored_whole(database: Database, told: list[Envelope]) -> None:
    database.write(lambda tx: tasks.created(tx, NS, ID, SHIM, 42))
    record = only(database)
    assert record.created_at
    assert record == replace(TASK, state=TaskState.CREATED, shim=SHIM, pid=42, created_at=record.created_at)


def test_an_id_is_taken_once(database: Database, told: list[Envelope]) -> None:
    with pytest.raises(AlreadyExists, match="task c1"):
        database.write(lambda tx: tasks.begin(tx, TASK))
    database.write(lambda tx: tasks.begin(tx, replace(TASK, namespace=Namespace("red"))))


def test_an_exit_is_stored_with_its_event_and_once(database: Database, told: list[Envelope]) -> None:
    assert database.write(lambda tx: tasks.take_event(tx, exit_event()))
    assert not database.write(lambda tx: tasks.take_event(tx, exit_event()))
    assert not database.write(lambda tx: tasks.missed_exit(tx, NS, ID, "", END))
    assert database.read(lambda connection: exits.of(connection, NS, ID, "")) == END
    assert only(database).state is TaskState.STOPPED
    assert [event.topic for event in told] == ["/tasks/exit"]


def test_a_missed_exit_is_told_and_its_late_event_dropped(database: Database, told: list[Envelope]) -> None:
    assert database.write(lambda tx: tasks.missed_exit(tx, NS, ID, "", END))
    assert not database.write(lambda tx: tasks.take_event(tx, exit_event()))
    assert told[0].event == exit_event().event


def test_an_exec_does_not_stop_the_task(database: Database, told: list[Envelope]) -> None:
    database.write(lambda tx: tasks.take_event(tx, exit_event(id_="e1")))
    assert only(database).state is TaskState.CREATING
    assert database.read(lambda connection: exits.of(connection, NS, ID, "e1")) == END
    database.write(lambda tx: exits.retire(tx, NS, ID, "e1"))
    assert database.read(lambda connection: exits.of(connection, NS, ID, "e1")) is None


def test_a_late_create_or_start_does_not_hide_the_exit(database: Database, told: list[Envelope]) -> None:
    started = TaskStart(container_id=ID, pid=42)
    event = Envelope(
        Nanoseconds(9), NS, "/tasks/start", Any("containerd.events.TaskStart", started.SerializeToString())
    )
    database.write(lambda tx: tasks.take_event(tx, exit_event()))
    database.write(lambda tx: tasks.created(tx, NS, ID, SHIM, 42))
    database.write(lambda tx: tasks.take_event(tx, event))
    record = only(database)
    assert (record.state, record.started_at) == (TaskState.STOPPED, 9)


def test_start_makes_it_running(database: Database, told: list[Envelope]) -> None:
    started = TaskStart(container_id=ID, pid=42).SerializeToString()
    database.write(lambda tx: tasks.created(tx, NS, ID, SHIM, 42))
    event = Envelope(Nanoseconds(9), NS, "/tasks/start", Any("containerd.events.TaskStart", started))
    database.write(lambda tx: tasks.take_event(tx, event))
    assert only(database).state is TaskState.RUNNING


def test_delete_remembers_what_it_came_from(database: Database, told: list[Envelope]) -> None:
    database.write(lambda tx: tasks.take_event(tx, exit_event()))
    assert database.write(lambda tx: tasks.begin_delete(tx, NS, ID)) is TaskState.STOPPED
    assert only(database).state is TaskState.DELETING
    database.write(lambda tx: tasks.remove(tx, NS, ID))
    assert database.read(tasks.find_all) == []
    assert database.read(lambda connection: exits.of(connection, NS, ID, "")) is None
    with pytest.raises(NotFound):
        database.write(lambda tx: tasks.begin_delete(tx, NS, ID))


def test_an_exit_during_delete_leaves_the_mark(database: Database, told: list[Envelope]) -> None:
    database.write(lambda tx: tasks.begin_delete(tx, NS, ID))
    database.write(lambda tx: tasks.take_event(tx, exit_event()))
    assert only(database).state is TaskState.DELETING


@pytest.mark.parametrize("known", [True, False])
def test_a_lost_task_is_told_of_once(database: Database, told: list[Envelope], known: bool) -> None:
    if known:
        database.write(lambda tx: tasks.take_event(tx, exit_event()))
    guess = Exit(0, 137, Nanoseconds(99))
    end = database.write(lambda tx: tasks.lost(tx, NS, ID, guess, "its shim died"))
    assert end == (END if known else guess)
    assert [event.topic for event in told] == ["/tasks/exit", "/tasks/delete"]
    assert told[1].event is not None
    assert TaskDelete.FromString(told[1].event.value).exit_status == end.status
    assert database.read(tasks.find_all) == []


def test_an_undecodable_event_is_refused(database: Database, told: list[Envelope]) -> None:
    bad = Envelope(Nanoseconds(1), NS, "/tasks/exit", Any("containerd.events.TaskExit", b"\xff"))
    with pytest.raises(InvalidArgument, match="/tasks/exit"):
        database.write(lambda tx: tasks.take_event(tx, bad))


def test_an_event_of_an_unknown_task_is_told(database: Database, told: list[Envelope]) -> None:
    """After the delete of a task its last events may still be on their way."""
    database.write(lambda tx: tasks.remove(tx, NS, ID))
    assert database.write(lambda tx: tasks.take_event(tx, exit_event()))
    assert database.read(lambda connection: exits.of(connection, NS, ID, "")) is None
