"""`sctr exits`: how processes ended, and why, also when their container is long gone."""

from __future__ import annotations

from supervisor.cli import words
from supervisor.cli.context import Context
from supervisor.client.exits import ExitRecord
from supervisor.errors import InvalidArgument
from supervisor.model.instant import SECOND, Nanoseconds, format_rfc3339

MOST = 100
"""Characters of a reason in a table; a runtime's error can be long."""


async def show(context: Context) -> int:
    """List exit records, newest first."""
    if context.args.limit < 1:
        raise InvalidArgument(f"--limit {context.args.limit}: at least 1 is to be shown")
    records = await context.client.exits.list(context.args.container or "", limit=context.args.limit)
    rows = [_row(record) for record in records]
    if not context.as_json:
        rows = [
            row | {"exec": row["exec"] or "-", "reason": words.cut(str(row["reason"]), 100)} for row in rows
        ]
    context.table(("container", "exec", "ended", "ran", "code", "reason"), rows)
    return 0


def _row(record: ExitRecord) -> dict[str, object]:
    return {
        "container": record.container_id,
        "exec": record.exec_id,
        "ended": words.age(record.exited_at),
        "ran": _ran(record),
        "code": record.code,
        "signal": record.signal or None,
        "oom_killed": record.oom_killed,
        "reason": record.reason,
        "error": record.error or None,
        "pid": record.pid or None,
        "started_at": _written(record.started_at),
        "exited_at": _written(record.exited_at),
        "deleted": record.deleted,
    }


def _ran(record: ExitRecord) -> str:
    if record.started_at is None or record.exited_at is None:
        return "-"
    return f"{max(0, record.exited_at - record.started_at) / SECOND:.1f}s"


def _written(instant: Nanoseconds | None) -> str | None:
    return None if instant is None else format_rfc3339(instant)
