"""`sctr restarts`: which containers are kept running, and why one is not."""

from __future__ import annotations

from supervisor.cli import words
from supervisor.cli.context import Context
from supervisor.client.exits import ExitRecord
from supervisor.client.restarts import Restart
from supervisor.model.instant import SECOND, format_rfc3339, now

_COLUMNS = ("container", "wanted", "policy", "restarts", "last exit", "state")


async def show(context: Context) -> int:
    """List the containers that the restart monitor minds."""
    client = context.client
    found = await client.restarts.list()
    # Newest first: of each container the last one stays.
    records = reversed(await client.exits.list(first_processes=True)) if found else ()
    ends = {record.container_id: record for record in records}
    rows = [_row(one, ends.get(one.container_id)) for one in found]
    if not context.as_json:
        rows = [
            row | {"last exit": _end(ends.get(one.container_id)), "state": words.cut(_state(one), 120)}
            for one, row in zip(found, rows, strict=True)
        ]
    context.table(_COLUMNS, rows)
    return 0


def _row(one: Restart, end: ExitRecord | None) -> dict[str, object]:
    return {
        "container": one.container_id,
        "wanted": one.wanted,
        "policy": one.policy,
        "restarts": one.restarts,
        "attempts_in_a_row": one.attempts_in_a_row,
        "last_attempt_at": format_rfc3339(one.last_attempt_at) if one.last_attempt_at else None,
        "running": one.running,
        "why": one.why or None,
        "next_attempt_at": format_rfc3339(one.next_attempt_at) if one.next_attempt_at else None,
        "exit_code": end.code if end else None,
        "exit_reason": end.reason if end else None,
        "exited_at": format_rfc3339(end.exited_at) if end and end.exited_at else None,
    }


def _end(end: ExitRecord | None) -> str:
    return "-" if end is None else f"{words.cut(end.reason)}, {words.age(end.exited_at)} ago"


def _state(one: Restart) -> str:
    if one.running:
        return "running"
    if one.next_attempt_at is None:
        return one.why or ("stopped" if one.wanted == "stopped" else "-")
    wait = max(0, one.next_attempt_at - now()) / SECOND
    return f"next attempt in {wait:.1f} s" + (f": {one.why}" if one.why else "")
