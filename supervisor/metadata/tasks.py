"""Rows of tasks and of exits (containerd keeps neither; architecture: "The order of durability").

An exit is stored in the transaction that puts its event into the journal. Deliveries that come twice,
because a daemon died before it could acknowledge, are known by process and time and dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any as Anything

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, RowMapping, and_, bindparam, case, delete, insert, select, update

from supervisor.api.events.task_pb2 import TaskDelete, TaskExit, TaskStart
from supervisor.errors import AlreadyExists, InvalidArgument, NotFound
from supervisor.metadata import namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import ExitRow, TaskRow
from supervisor.model.event import Envelope
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.task import Exit, ShimRecord, Stdio, TaskRecord, TaskState

_TASK = and_(TaskRow.namespace == bindparam("of"), TaskRow.id == bindparam("task"))
_EXITS = and_(
    ExitRow.namespace == bindparam("of"),
    ExitRow.container_id == bindparam("task"),
    ExitRow.exec_id == bindparam("exec"),
)

# Built once: SQLAlchemy takes ten times as long to build a statement as SQLite to run it.
_ALL = select(*TaskRow.__table__.columns)
_STATE = select(TaskRow.state).where(_TASK)
_INSERT = insert(TaskRow)
_SET_STATE = update(TaskRow).where(_TASK).values(state=bindparam("to"))
_SET_SHIM = (
    update(TaskRow)
    .where(_TASK)
    .values(
        shim_binary=bindparam("binary"),
        shim_address=bindparam("address"),
        shim_version=bindparam("version"),
        shim_protocol=bindparam("protocol"),
    )
)
_SET_CREATED = (
    update(TaskRow)
    .where(_TASK)
    .values(
        pid=bindparam("process"),
        state=case((TaskRow.state == TaskState.CREATING.value, TaskState.CREATED.value), else_=TaskRow.state),
    )
)
_SET_STARTED = (
    update(TaskRow)
    .where(_TASK)
    .values(
        pid=bindparam("process"),
        started_at=bindparam("at"),
        state=case(
            (
                TaskRow.state.in_([TaskState.CREATING.value, TaskState.CREATED.value]),
                TaskState.RUNNING.value,
            ),
            else_=TaskRow.state,
        ),
    )
)
_SET_STOPPED = (
    update(TaskRow)
    .where(_TASK, TaskRow.state != TaskState.DELETING.value)
    .values(state=TaskState.STOPPED.value)
)
_DELETE = delete(TaskRow).where(_TASK)
_INSERT_EXIT = insert(ExitRow)
_LATEST_EXIT = select(*ExitRow.__table__.columns).where(_EXITS).order_by(ExitRow.id.desc()).limit(1)
_SAME_EXIT = select(ExitRow.id).where(
    _EXITS, ExitRow.pid == bindparam("process"), ExitRow.exited_at == bindparam("at")
)
_DELETE_EXITS = delete(ExitRow).where(_EXITS)
_DELETE_ALL_EXITS = delete(ExitRow).where(
    ExitRow.namespace == bindparam("of"), ExitRow.container_id == bindparam("task")
)


def find_all(connection: Connection) -> Sequence[TaskRecord]:
    """Every task of every namespace."""
    return [_value(row) for row in connection.execute(_ALL).mappings()]


def begin(tx: Transaction, task: TaskRecord) -> None:
    """Store a task that is about to be made; raises AlreadyExists."""
    if tx.execute(_STATE, _key(task.namespace, task.id)).first():
        raise AlreadyExists(f"task {task.id}")
    namespaces.touch(tx, task.namespace)
    tx.execute(_INSERT, _values(task) | {"created_at": tx.now})


def shim_started(tx: Transaction, namespace: Namespace, id_: ContainerId, shim: ShimRecord) -> None:
    """Note where the task's shim listens, before it is asked to make anything."""
    tx.execute(_SET_SHIM, _key(namespace, id_) | asdict(shim))


def created(tx: Transaction, namespace: Namespace, id_: ContainerId, pid: int) -> None:
    """Note that the task is there. Its process may have ended meanwhile; then it stays stopped."""
    tx.execute(_SET_CREATED, _key(namespace, id_) | {"process": pid})


def set_state(tx: Transaction, namespace: Namespace, id_: ContainerId, state: TaskState) -> None:
    """Note what a task has come to."""
    tx.execute(_SET_STATE, _key(namespace, id_) | {"to": state.value})


def remove(tx: Transaction, namespace: Namespace, id_: ContainerId) -> None:
    """Forget a task and its exits; nothing of it is left on disk or in the kernel."""
    tx.execute(_DELETE_ALL_EXITS, _key(namespace, id_))
    tx.execute(_DELETE, _key(namespace, id_))


def begin_delete(tx: Transaction, namespace: Namespace, id_: ContainerId) -> TaskState:
    """Note that a delete has begun; answers the state before, for the case that the shim refuses."""
    former = tx.execute(_STATE, _key(namespace, id_)).scalar_one_or_none()
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
    row = connection.execute(_LATEST_EXIT, _key(namespace, id_, exec_id)).mappings().first()
    return None if row is None else Exit(row["pid"], row["exit_status"], Nanoseconds(row["exited_at"]))


def forget_exec(tx: Transaction, namespace: Namespace, id_: ContainerId, exec_id: str) -> None:
    """Drop the exits of an exec that was deleted."""
    tx.execute(_DELETE_EXITS, _key(namespace, id_, exec_id))


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
    key = _key(envelope.namespace, told.container_id)
    tx.execute(_SET_STARTED, key | {"process": told.pid, "at": envelope.timestamp})


def _store_exit(tx: Transaction, namespace: str, id_: str, exec_id: str, end: Exit) -> bool:
    """Keep an exit while its task is there; False when it is kept already."""
    key = _key(namespace, id_, exec_id)
    if tx.execute(_SAME_EXIT, key | {"process": end.pid, "at": end.exited_at}).first():
        return False
    if not tx.execute(_STATE, _key(namespace, id_)).first():
        return True
    tx.execute(
        _INSERT_EXIT,
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
        tx.execute(_SET_STOPPED, _key(namespace, id_))
    return True


def _exit_message(container: str, process: str, end: Exit) -> TaskExit:
    message = TaskExit(container_id=container, id=process, pid=end.pid, exit_status=end.status)
    _set_time(message.exited_at, end.exited_at)
    return message


def _set_time(field: Timestamp, value: Nanoseconds) -> None:
    field.seconds, field.nanos = divmod(value, SECOND)


def _time(field: Timestamp) -> Nanoseconds:
    return Nanoseconds(field.seconds * SECOND + field.nanos)


def _key(namespace: str, id_: str, exec_id: str | None = None) -> dict[str, Anything]:
    """The parameters that name a task, or the exits of one of its processes."""
    key = {"of": namespace, "task": id_}
    return key if exec_id is None else key | {"exec": exec_id}


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
