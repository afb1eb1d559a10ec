"""Exit records: how processes ended, while their tasks are there and for a while after.

(containerd keeps none.) A record of a task that is there answers the daemon's own questions; once
the task is deleted it is `past`, and only tells people what happened, until it is trimmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any as Anything

from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, insert, or_, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from supervisor.errors import NotFound
from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import ExecStartRow, ExitRow, TaskRow
from supervisor.metadata.statements import Prepared, Row
from supervisor.model import instant
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.task import Exit, ExitRecord, signal_of

OOM_WINDOW = 2 * SECOND
"""How far apart the kernel's word of a want of memory and the death that it caused may be told."""
KILLED = 9
UNKNOWN_STATUS = 255
MAX_ERROR = 4096
"""Characters of an error that are kept; a runtime says how much it likes."""

_OF_PROCESS = and_(
    ExitRow.namespace == bindparam("of"),
    ExitRow.container_id == bindparam("task"),
    ExitRow.exec_id == bindparam("exec"),
)
_OF_TASK = and_(ExitRow.namespace == bindparam("of"), ExitRow.container_id == bindparam("task"))
_STARTS_OF_TASK = and_(
    ExecStartRow.namespace == bindparam("of"), ExecStartRow.container_id == bindparam("task")
)
_LIVE = ExitRow.past.is_(False)

_COLUMNS = ExitRow.__table__.columns
_INSERT = Prepared(insert(ExitRow), [column.name for column in _COLUMNS if column is not _COLUMNS.id])
_ANY_OF_PROCESS = select(*_COLUMNS).where(_OF_PROCESS).order_by(ExitRow.id.desc()).limit(1)
_NEWEST = Prepared(_ANY_OF_PROCESS)
_NEWEST_LIVE = Prepared(_ANY_OF_PROCESS.where(_LIVE))
_SAME = Prepared(
    select(ExitRow.id).where(
        _OF_PROCESS, ExitRow.pid == bindparam("process"), ExitRow.exited_at == bindparam("at")
    )
)
_TASK = Prepared(
    select(TaskRow.started_at, TaskRow.oom_at).where(
        TaskRow.namespace == bindparam("of"), TaskRow.id == bindparam("task")
    )
)
_NOTE_OOM = Prepared(
    update(TaskRow)
    .where(TaskRow.namespace == bindparam("of"), TaskRow.id == bindparam("task"))
    .values(oom_at=bindparam("at"))
)
_BLAME_OOM = Prepared(
    update(ExitRow)
    .where(
        _OF_TASK,
        _LIVE,
        ExitRow.signal == KILLED,
        ExitRow.exited_at.between(bindparam("after"), bindparam("before")),
    )
    .values(oom_killed=True)
)
_RETIRE = Prepared(update(ExitRow).where(_OF_PROCESS, _LIVE).values(past=True))
_RETIRE_ALL = Prepared(update(ExitRow).where(_OF_TASK, _LIVE).values(past=True))
_NEW_START = upsert(ExecStartRow)
_START = Prepared(
    _NEW_START.on_conflict_do_update(
        index_elements=["namespace", "container_id", "exec_id"],
        set_={"started_at": _NEW_START.excluded.started_at},
    )
)
_START_OF_EXEC = and_(_STARTS_OF_TASK, ExecStartRow.exec_id == bindparam("exec"))
_STARTED = Prepared(select(ExecStartRow.started_at).where(_START_OF_EXEC))
_FORGET_START = Prepared(delete(ExecStartRow).where(_START_OF_EXEC))
_FORGET_STARTS = Prepared(delete(ExecStartRow).where(_STARTS_OF_TASK))
_LISTED = (
    select(*_COLUMNS)
    .where(
        ExitRow.namespace == bindparam("of"),
        or_(bindparam("task") == "", ExitRow.container_id == bindparam("task")),
        or_(bindparam("all"), ExitRow.exec_id == ""),
    )
    .order_by(ExitRow.id.desc())
    .limit(bindparam("most"))
)
_OLDEST_KEPT = (
    select(ExitRow.id)
    .where(ExitRow.past.is_(True))
    .order_by(ExitRow.id.desc())
    .limit(1)
    .offset(bindparam("keep"))
)
_TRIM_COUNT = delete(ExitRow).where(ExitRow.past.is_(True), ExitRow.id <= bindparam("last"))
_FORGET_PAST = delete(ExitRow).where(ExitRow.namespace == bindparam("of"), ExitRow.past.is_(True))
_TRIM_AGE = delete(ExitRow).where(ExitRow.past.is_(True), ExitRow.exited_at < bindparam("before"))


@dataclass(frozen=True, slots=True)
class Retention:
    """How many records of former tasks are kept, and for how many seconds."""

    keep: int
    seconds: float


def of(connection: Connection, namespace: Namespace, id_: ContainerId, exec_id: str) -> Exit | None:
    """How a process of a task that is there ended; None while it has not."""
    row = _NEWEST_LIVE.one(connection, _key(namespace, id_, exec_id))
    return None if row is None else _exit(row)


def get(connection: Connection, namespace: Namespace, id_: str, exec_id: str) -> ExitRecord:
    """The newest record of a process, of whatever time; raises NotFound."""
    row = _NEWEST.one(connection, _key(namespace, id_, exec_id))
    if row is None:
        name = f"exec {exec_id} of container {id_}" if exec_id else f"container {id_}"
        raise NotFound(f"no exit of {name} is on record")
    return _value(row)


def find(
    connection: Connection, namespace: Namespace, id_: str, most: int, *, first_only: bool
) -> Sequence[ExitRecord]:
    """The newest records of a container, or of all when `id_` is empty."""
    wanted = {"of": namespace, "task": id_, "all": not first_only, "most": most}
    return [_value(row) for row in connection.execute(_LISTED, wanted).mappings()]


def add(
    tx: Transaction, namespace: str, id_: str, exec_id: str, end: Exit, signal: int | None = None
) -> bool:
    """Keep an exit; False when it is kept already.

    `signal` is what the shim says it was; those that do not say leave it to be read off the status.
    """
    key = _key(namespace, id_, exec_id)
    if _SAME.one(tx.connection, key | {"process": end.pid, "at": end.exited_at}):
        return False
    task = _TASK.one(tx.connection, _key(namespace, id_))
    number = signal_of(end.status) if signal is None else signal
    started_at = _exec_started(tx, key) if exec_id else _task_started(task)
    if started_at is not None:
        started_at = min(started_at, end.exited_at)  # what ends at once may be told to start a moment later
    starved = number == KILLED and task is not None and _is_near(task["oom_at"], end.exited_at)
    _INSERT.run(
        tx.connection,
        _row(key, end, signal=number, oom_killed=starved, started_at=started_at, past=task is None),
    )
    return True


def failed(tx: Transaction, namespace: Namespace, id_: ContainerId, exec_id: str, error: str) -> None:
    """Keep why a process never ran."""
    end = Exit(0, UNKNOWN_STATUS, Nanoseconds(tx.now))
    _INSERT.run(tx.connection, _row(_key(namespace, id_, exec_id), end, error=error[:MAX_ERROR], past=True))


def lost(tx: Transaction, namespace: Namespace, id_: ContainerId, end: Exit, error: str) -> None:
    """Keep the end of a task whose shim died; how its process ended is then a guess, and `error` says so."""
    task = _TASK.one(tx.connection, _key(namespace, id_))
    started_at = _task_started(task)
    key = _key(namespace, id_, "")
    _INSERT.run(
        tx.connection,
        _row(key, end, signal=signal_of(end.status), error=error[:MAX_ERROR], started_at=started_at),
    )


def exec_started(tx: Transaction, namespace: str, id_: str, exec_id: str, at: Nanoseconds) -> None:
    """Note since when an exec runs."""
    values = {"namespace": namespace, "container_id": id_, "exec_id": exec_id, "started_at": at}
    _START.run(tx.connection, values)


def ran_out_of_memory(tx: Transaction, namespace: str, id_: str, at: Nanoseconds) -> None:
    """Note that the kernel killed a process of the container; whichever was killed at that time was it."""
    key = _key(namespace, id_)
    _NOTE_OOM.run(tx.connection, key | {"at": at})
    _BLAME_OOM.run(tx.connection, key | {"after": at - OOM_WINDOW, "before": at + OOM_WINDOW})


def retire(tx: Transaction, namespace: Namespace, id_: ContainerId, exec_id: str) -> None:
    """An exec was deleted: its exits are past."""
    _RETIRE.run(tx.connection, _key(namespace, id_, exec_id))
    _FORGET_START.run(tx.connection, _key(namespace, id_, exec_id))


def retire_all(tx: Transaction, namespace: Namespace, id_: ContainerId) -> None:
    """A task was deleted: its exits are past."""
    _RETIRE_ALL.run(tx.connection, _key(namespace, id_))
    _FORGET_STARTS.run(tx.connection, _key(namespace, id_))


def forget_past(tx: Transaction, namespace: str) -> None:
    """Drop the records of a namespace that is deleted: a later one of its name is somebody else's."""
    tx.execute(_FORGET_PAST, {"of": namespace})


def trim(tx: Transaction, retention: Retention) -> None:
    """Drop records of former tasks that are too old or too many; those of tasks that are there stay."""
    last = tx.execute(_OLDEST_KEPT, {"keep": retention.keep}).scalar_one_or_none()
    if last is not None:
        tx.execute(_TRIM_COUNT, {"last": last})
    before = instant.now() - int(retention.seconds * SECOND)
    tx.execute(_TRIM_AGE, {"before": before})


def _exec_started(tx: Transaction, key: dict[str, Anything]) -> int | None:
    start = _STARTED.one(tx.connection, key)
    _FORGET_START.run(tx.connection, key)
    return None if start is None else start["started_at"]


def _task_started(task: Row | None) -> int | None:
    return None if task is None else task["started_at"]


def _is_near(told: int | None, at: Nanoseconds) -> bool:
    return told is not None and abs(at - told) <= OOM_WINDOW


def _key(namespace: str, id_: str, exec_id: str | None = None) -> dict[str, Anything]:
    """The parameters that name a task, or one of its processes."""
    key = {"of": namespace, "task": id_}
    return key if exec_id is None else key | {"exec": exec_id}


def _row(key: dict[str, Anything], end: Exit, **more: Anything) -> dict[str, Anything]:
    defaults = {"signal": 0, "oom_killed": False, "error": "", "started_at": None, "past": False}
    return defaults | {
        "namespace": key["of"],
        "container_id": key["task"],
        "exec_id": key["exec"],
        "pid": end.pid,
        "exit_status": end.status,
        "exited_at": end.exited_at,
        **more,
    }


def _exit(row: Row | RowMapping) -> Exit:
    return Exit(row["pid"], row["exit_status"], Nanoseconds(row["exited_at"]))


def _value(row: Row | RowMapping) -> ExitRecord:
    return ExitRecord(
        sequence=row["id"],
        container_id=row["container_id"],
        exec_id=row["exec_id"],
        exit=_exit(row),
        signal=row["signal"],
        oom_killed=row["oom_killed"],
        error=row["error"],
        started_at=row["started_at"],
        deleted=row["past"],
    )
