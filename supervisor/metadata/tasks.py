"""Rows of tasks and of exits (containerd keeps neither; architecture: "The order of durability").

An exit is stored in the transaction that puts its event into the journal. Deliveries that come twice,
because a daemon died before it could acknowledge, are known by process and time and dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any as Anything

from google.protobuf.message import DecodeError
from sqlalchemy import Connection, RowMapping, and_, delete, insert, select, update
from sqlalchemy.sql import ColumnElement

from supervisor.api.events.task_pb2 import TaskDelete, TaskExit, TaskStart
from supervisor.errors import AlreadyExists, InvalidArgument, NotFound
from supervisor.metadata import namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import ExitRow, TaskRow
from supervisor.model.event import Envelope
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.task import Exit, ShimRecord, Stdio, TaskRecord, TaskState

_COLUMNS = TaskRow.__table__.columns


def find_all(connection: Connection) -> Sequence[TaskRecord]:
    """Every task of every namespace."""
    return [_value(row) for row in connection.execute(select(*_COLUMNS)).mappings()]


def begin(tx: Transaction, task: TaskRecord) -> None:
    """Store a task that is about to be made; raises AlreadyExists."""
    if tx.execute(select(TaskRow.id).where(_is(task.namespace, task.id))).first():
        raise AlreadyExists(f"task {task.id}")
    namespaces.touch(tx, task.namespace)
    tx.execute(insert(TaskRow), _values(task) | {"created_at": tx.now})


def shim_started(tx: Transaction, namespace: Namespace, id_: ContainerId, shim: ShimRecord) -> None:
    """Note where the task's shim listens, before it is asked to make anything."""
    _set(
        tx,
        namespace,
        id_,
        shim_binary=shim.binary,
        shim_address=shim.address,
        shim_version=shim.version,
        shim_protocol=shim.protocol,
    )


def created(tx: Transaction, namespace: Namespace, id_: ContainerId, pid: int) -> None:
    """Note that the task is there. Its process may have ended meanwhile; then it stays stopped."""
    is_new = and_(_is(namespace, id_), TaskRow.state == TaskState.CREATING.value)
    tx.execute(update(TaskRow).where(is_new).values(state=TaskState.CREATED.value))
    _set(tx, namespace, id_, pid=pid)


def set_state(tx: Transaction, namespace: Namespace, id_: ContainerId, state: TaskState) -> None:
    """Note what a task has come to."""
    _set(tx, namespace, id_, state=state.value)


def remove(tx: Transaction, namespace: Namespace, id_: ContainerId) -> None:
    """Forget a task and its exits; nothing of it is left on disk or in the kernel."""
    tx.execute(delete(ExitRow).where(ExitRow.namespace == namespace, ExitRow.container_id == id_))
    tx.execute(delete(TaskRow).where(_is(namespace, id_)))


def begin_delete(tx: Transaction, namespace: Namespace, id_: ContainerId) -> TaskState:
    """Note that a delete has begun; answers the state before, for the case that the shim refuses."""
    former = tx.execute(select(TaskRow.state).where(_is(namespace, id_))).scalar_one_or_none()
    if former is None:
        raise NotFound(f"task {id_} not found")
    set_state(tx, namespace, id_, TaskState.DELETING)
    return TaskState(former)


def lost(tx: Transaction, namespace: Namespace, id_: ContainerId, guess: Exit) -> Exit:
    """Forget a task whose shim died, and tell its exit, unless it was told before, and its end.

    Answers how it ended: as was known before, else `guess`.
    """
    known = exit_of(tx.connection, namespace, id_, "")
    end = known or guess
    if known is None:
        tx.emit(namespace, "/tasks/exit", _exit_message(id_, id_, end))
    gone = TaskDelete(container_id=id_, pid=end.pid, exit_status=end.status)
    _set_time(gone.exited_at, end.exited_at)
    tx.emit(namespace, "/tasks/delete", gone)
    remove(tx, namespace, id_)
    return end


def exit_of(connection: Connection, namespace: Namespace, id_: ContainerId, exec_id: str) -> Exit | None:
    """How a process ended, the latest of that exec id; None while it has not."""
    latest = select(ExitRow).where(*_exits_of(namespace, id_, exec_id)).order_by(ExitRow.id.desc()).limit(1)
    row = connection.execute(latest.with_only_columns(*ExitRow.__table__.columns)).mappings().first()
    return None if row is None else Exit(row["pid"], row["exit_status"], Nanoseconds(row["exited_at"]))


def forget_exec(tx: Transaction, namespace: Namespace, id_: ContainerId, exec_id: str) -> None:
    """Drop the exits of an exec that was deleted."""
    tx.execute(delete(ExitRow).where(*_exits_of(namespace, id_, exec_id)))


def missed_exit(tx: Transaction, namespace: Namespace, id_: ContainerId, exec_id: str, end: Exit) -> bool:
    """Store and tell an exit that the shim reports but whose event never came; False when it is known."""
    if not _store_exit(tx, namespace, id_, exec_id, end):
        return False
    tx.emit(namespace, "/tasks/exit", _exit_message(id_, exec_id or id_, end))
    return True


def take_event(tx: Transaction, envelope: Envelope) -> bool:
    """Put a shim's event into the journal with what it changes; False when it had come before."""
    payload = envelope.event.value if envelope.event is not None else b""
    try:
        if envelope.topic == "/tasks/exit" and not _exited(tx, envelope, TaskExit.FromString(payload)):
            return False
        if envelope.topic == "/tasks/start":
            _started(tx, envelope, TaskStart.FromString(payload))
    except DecodeError as error:
        raise InvalidArgument(f"the event of {envelope.topic} cannot be decoded: {error}") from error
    tx.journal(envelope)
    return True


def _exited(tx: Transaction, envelope: Envelope, told: TaskExit) -> bool:
    exec_id = "" if told.id == told.container_id else told.id
    end = Exit(told.pid, told.exit_status, _time(told.exited_at))
    return _store_exit(tx, envelope.namespace, told.container_id, exec_id, end)


def _started(tx: Transaction, envelope: Envelope, told: TaskStart) -> None:
    """Note that the first process runs, unless its exit has been noted already."""
    waits = (TaskState.CREATING.value, TaskState.CREATED.value)
    task = _is(envelope.namespace, told.container_id)
    tx.execute(update(TaskRow).where(task, TaskRow.state.in_(waits)).values(state=TaskState.RUNNING.value))
    tx.execute(update(TaskRow).where(task).values(pid=told.pid, started_at=envelope.timestamp))


def _store_exit(tx: Transaction, namespace: str, id_: str, exec_id: str, end: Exit) -> bool:
    """Keep an exit while its task is there; False when it is kept already."""
    known = select(ExitRow.id).where(
        *_exits_of(namespace, id_, exec_id), ExitRow.pid == end.pid, ExitRow.exited_at == end.exited_at
    )
    if tx.execute(known).first():
        return False
    if not tx.execute(select(TaskRow.id).where(_is(namespace, id_))).first():
        return True
    tx.execute(
        insert(ExitRow),
        {
            "namespace": namespace,
            "container_id": id_,
            "exec_id": exec_id,
            "pid": end.pid,
            "exit_status": end.status,
            "exited_at": end.exited_at,
        },
    )
    if not exec_id:
        ends = and_(_is(namespace, id_), TaskRow.state != TaskState.DELETING.value)
        tx.execute(update(TaskRow).where(ends).values(state=TaskState.STOPPED.value))
    return True


def _exit_message(container: str, process: str, end: Exit) -> TaskExit:
    message = TaskExit(container_id=container, id=process, pid=end.pid, exit_status=end.status)
    _set_time(message.exited_at, end.exited_at)
    return message


def _set_time(field: Anything, value: Nanoseconds) -> None:
    field.seconds, field.nanos = divmod(value, SECOND)


def _time(field: Anything) -> Nanoseconds:
    return Nanoseconds(field.seconds * SECOND + field.nanos)


def _set(tx: Transaction, namespace: Namespace, id_: ContainerId, **values: Anything) -> None:
    tx.execute(update(TaskRow).where(_is(namespace, id_)).values(**values))


def _is(namespace: str, id_: str) -> ColumnElement[bool]:
    return and_(TaskRow.namespace == namespace, TaskRow.id == id_)


def _exits_of(namespace: str, id_: str, exec_id: str) -> tuple[ColumnElement[bool], ...]:
    return (ExitRow.namespace == namespace, ExitRow.container_id == id_, ExitRow.exec_id == exec_id)


def _values(task: TaskRecord) -> dict[str, Anything]:
    return {
        "namespace": task.namespace,
        "id": task.id,
        "state": task.state.value,
        "bundle": task.bundle,
        "runtime": task.runtime,
        "shim_binary": task.shim.binary,
        "shim_address": task.shim.address,
        "shim_version": task.shim.version,
        "shim_protocol": task.shim.protocol,
        "pid": task.pid,
        "stdin": task.stdio.stdin,
        "stdout": task.stdio.stdout,
        "stderr": task.stdio.stderr,
        "terminal": task.stdio.terminal,
        "started_at": task.started_at,
    }


def _value(row: RowMapping) -> TaskRecord:
    return TaskRecord(
        namespace=row["namespace"],
        id=row["id"],
        state=TaskState(row["state"]),
        bundle=row["bundle"],
        runtime=row["runtime"],
        shim=ShimRecord(row["shim_binary"], row["shim_address"], row["shim_version"], row["shim_protocol"]),
        stdio=Stdio(row["stdin"], row["stdout"], row["stderr"], row["terminal"]),
        pid=row["pid"],
        created_at=row["created_at"],
        started_at=row["started_at"],
    )
