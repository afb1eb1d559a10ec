"""Rows of tasks, and what shims' events change (architecture: "The order of durability").

An exit is stored in the transaction that puts its event into the journal. Deliveries that come twice,
because a daemon died before it could acknowledge, are known by process and time and dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any as Anything

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, and_, bindparam, case, delete, insert, or_, select, update

from supervisor.api.events.task_pb2 import TaskDelete, TaskExecStarted, TaskExit, TaskOOM, TaskStart
from supervisor.errors import AlreadyExists, InvalidArgument, NotFound
from supervisor.metadata import exits, namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import TaskRow
from supervisor.metadata.statements import Prepared, Row
from supervisor.model.event import Envelope
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.task import Exit, ShimRecord, Stdio, TaskRecord, TaskState

_TASK = and_(TaskRow.namespace == bindparam("of"), TaskRow.id == bindparam("task"))

_COLUMNS = TaskRow.__table__.columns
_ALL = Prepared(select(*_COLUMNS))
_STATE = Prepared(select(TaskRow.state).where(_TASK))
_INSERT = Prepared(insert(TaskRow), [column.name for column in _COLUMNS if column is not _COLUMNS.oom_at])
_SET_STATE = Prepared(update(TaskRow).where(_TASK).values(state=bindparam("to")))
_CREATING = TaskRow.state == TaskState.CREATING.value
_NOT_STARTED = or_(_CREATING, TaskRow.state == TaskState.CREATED.value)
_SET_CREATED = Prepared(
    update(TaskRow)
    .where(_TASK)
    .values(
        shim_binary=bindparam("binary"),
        shim_address=bindparam("address"),
        shim_version=bindparam("version"),
        shim_protocol=bindparam("protocol"),
        pid=bindparam("process"),
        state=case((_CREATING, TaskState.CREATED.value), else_=TaskRow.state),
    )
)
_SET_STARTED = Prepared(
    update(TaskRow)
    .where(_TASK)
    .values(
        pid=bindparam("process"),
        started_at=bindparam("at"),
        state=case((_NOT_STARTED, TaskState.RUNNING.value), else_=TaskRow.state),
    )
)
_SET_STOPPED = Prepared(
    update(TaskRow)
    .where(_TASK, TaskRow.state != TaskState.DELETING.value)
    .values(state=TaskState.STOPPED.value)
)
_DELETE = Prepared(delete(TaskRow).where(_TASK))


def find_all(connection: Connection) -> Sequence[TaskRecord]:
    """Every task of every namespace."""
    return [_value(row) for row in _ALL.each(connection, {})]


def begin(tx: Transaction, task: TaskRecord) -> None:
    """Store a task that is about to be made; raises AlreadyExists."""
    if _STATE.one(tx.connection, _key(task.namespace, task.id)):
        raise AlreadyExists(f"task {task.id}")
    namespaces.touch(tx, task.namespace)
    _INSERT.run(tx.connection, _values(task) | {"created_at": tx.now})


def replace(tx: Transaction, task: TaskRecord) -> None:
    """Store a task that is there already, in place of whatever the store believes of its name."""
    namespaces.touch(tx, task.namespace)
    _DELETE.run(tx.connection, _key(task.namespace, task.id))
    _INSERT.run(tx.connection, _values(task) | {"created_at": tx.now})


def created(tx: Transaction, namespace: Namespace, id_: ContainerId, shim: ShimRecord, pid: int) -> None:
    """Note that the task is there, and where its shim listens.

    Its process may have ended meanwhile; then it stays stopped. Until this is noted, the task's bundle
    says where its shim is.
    """
    _SET_CREATED.run(tx.connection, _key(namespace, id_) | asdict(shim) | {"process": pid})


def set_state(tx: Transaction, namespace: Namespace, id_: ContainerId, state: TaskState) -> None:
    """Note what a task has come to."""
    _SET_STATE.run(tx.connection, _key(namespace, id_) | {"to": state.value})


def remove(tx: Transaction, namespace: Namespace, id_: ContainerId) -> None:
    """Forget a task; nothing of it is left on disk or in the kernel, but how it ended stays on record."""
    exits.retire_all(tx, namespace, id_)
    _DELETE.run(tx.connection, _key(namespace, id_))


def begin_delete(tx: Transaction, namespace: Namespace, id_: ContainerId) -> TaskState:
    """Note that a delete has begun; answers the state before, for the case that the shim refuses."""
    former = _STATE.one(tx.connection, _key(namespace, id_))
    if former is None:
        raise NotFound(f"task {id_} not found")
    set_state(tx, namespace, id_, TaskState.DELETING)
    return TaskState(former["state"])


def lost(tx: Transaction, namespace: Namespace, id_: ContainerId, guess: Exit, why: str) -> Exit:
    """Forget a task whose shim died, and tell its exit, unless it was told before, and its end.

    Answers how it ended: as was known before, else `guess`, on record with `why`.
    """
    known = exits.of(tx.connection, namespace, id_, "")
    end = known or guess
    if known is None:
        exits.lost(tx, namespace, id_, end, why)
        tx.emit(namespace, "/tasks/exit", _exit_message(id_, id_, end))
    gone = TaskDelete(container_id=id_, pid=end.pid, exit_status=end.status)
    _set_time(gone.exited_at, end.exited_at)
    tx.emit(namespace, "/tasks/delete", gone)
    remove(tx, namespace, id_)
    return end


def missed_exit(tx: Transaction, namespace: Namespace, id_: ContainerId, exec_id: str, end: Exit) -> bool:
    """Store and tell an exit that the shim reports but whose event never came; False when it is known."""
    if not _store_exit(tx, namespace, id_, exec_id, end):
        return False
    tx.emit(namespace, "/tasks/exit", _exit_message(id_, exec_id or id_, end))
    return True


def take_event(tx: Transaction, envelope: Envelope, signal: int | None = None) -> bool:
    """Put a shim's event into the journal with what it changes; False when it had come before.

    `signal` is what ended the process of an exit event, where the shim says so.
    """
    payload = envelope.event.value if envelope.event is not None else b""
    try:
        new = _noted(tx, envelope, payload, signal)
    except DecodeError as error:
        raise InvalidArgument(f"the event of {envelope.topic} cannot be decoded: {error}") from error
    if new:
        tx.journal(envelope)
    return new


def _noted(tx: Transaction, envelope: Envelope, payload: bytes, signal: int | None) -> bool:
    """Note what an event says of tasks and exits; False when that is known."""
    match envelope.topic:
        case "/tasks/exit":
            return _exited(tx, envelope, TaskExit.FromString(payload), signal)
        case "/tasks/start":
            _started(tx, envelope, TaskStart.FromString(payload))
        case "/tasks/exec-started":
            run = TaskExecStarted.FromString(payload)
            exits.exec_started(tx, envelope.namespace, run.container_id, run.exec_id, envelope.timestamp)
        case "/tasks/oom":
            starved = TaskOOM.FromString(payload)
            exits.ran_out_of_memory(tx, envelope.namespace, starved.container_id, envelope.timestamp)
    return True


def _exited(tx: Transaction, envelope: Envelope, told: TaskExit, signal: int | None) -> bool:
    exec_id = "" if told.id == told.container_id else told.id
    end = Exit(told.pid, told.exit_status, _time(told.exited_at))
    return _store_exit(tx, envelope.namespace, told.container_id, exec_id, end, signal)


def _started(tx: Transaction, envelope: Envelope, told: TaskStart) -> None:
    """Note that the first process runs, unless its exit has been noted already."""
    key = _key(envelope.namespace, told.container_id)
    _SET_STARTED.run(tx.connection, key | {"process": told.pid, "at": envelope.timestamp})


def _store_exit(
    tx: Transaction, namespace: str, id_: str, exec_id: str, end: Exit, signal: int | None = None
) -> bool:
    """Keep an exit, and stop the task when it is the first process's; False when it is kept already."""
    if not exits.add(tx, namespace, id_, exec_id, end, signal):
        return False
    if not exec_id:
        _SET_STOPPED.run(tx.connection, _key(namespace, id_))
    return True


def _exit_message(container: str, process: str, end: Exit) -> TaskExit:
    message = TaskExit(container_id=container, id=process, pid=end.pid, exit_status=end.status)
    _set_time(message.exited_at, end.exited_at)
    return message


def _set_time(field: Timestamp, value: Nanoseconds) -> None:
    field.seconds, field.nanos = divmod(value, SECOND)


def _time(field: Timestamp) -> Nanoseconds:
    return Nanoseconds(field.seconds * SECOND + field.nanos)


def _key(namespace: str, id_: str) -> dict[str, Anything]:
    """The parameters that name a task."""
    return {"of": namespace, "task": id_}


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


def _value(row: Row) -> TaskRecord:
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
