"""`sctr ps`, `stop`, `kill` and `rm`: the containers there are."""

from __future__ import annotations

from contextlib import suppress

from supervisor.cli import logs, words
from supervisor.cli.context import Context
from supervisor.client import running
from supervisor.client.client import Client
from supervisor.client.containers import Container
from supervisor.client.exits import ExitRecord
from supervisor.client.tasks import ProcessState, Status
from supervisor.errors import FailedPrecondition, NotFound, Unimplemented
from supervisor.model.instant import format_rfc3339

_LIVE = (Status.RUNNING, Status.PAUSED, Status.PAUSING, Status.CREATED)


async def show(context: Context) -> int:
    """List the containers that run, or all."""
    client = context.client
    states = {state.container_id: state for state in await client.tasks.list()}
    ends = await _ends(client) if context.args.all else {}
    rows = []
    for container in await client.containers.list():
        state = states.get(container.id)
        if context.args.all or (state is not None and state.status in _LIVE):
            rows.append(_row(container, state, ends.get(container.id)))
    if context.args.quiet and not context.as_json:
        print("\n".join(str(row["id"]) for row in rows), end="\n" if rows else "")
        return 0
    if not context.as_json:
        rows = [row | {"command": words.cut(str(row["command"])), "pid": row["pid"] or "-"} for row in rows]
    context.table(("id", "image", "command", "age", "status", "pid"), rows)
    return 0


async def stop(context: Context) -> int:
    """Ask containers to end, kill those that do not listen."""
    args, stopped = context.args, []
    number = running.signal_number(args.signal) if args.signal else None
    for name in args.container:
        try:
            ended = await running.stop(context.client, name, timeout=args.time, with_signal=number)
        except NotFound:
            await context.client.containers.get(name)
            raise FailedPrecondition(f"stop {name}: it is not running") from None
        stopped.append({"id": name, "exit_code": ended.code})
    if context.as_json:
        context.document(stopped)
    else:
        print("\n".join(str(row["id"]) for row in stopped))
    return 0


async def kill(context: Context) -> int:
    """Send a signal to the first process of containers."""
    number = running.signal_number(context.args.signal)
    for name in context.args.container:
        await context.client.tasks.of(name).kill(number)
    context.answer({"signalled": context.args.container}, "\n".join(context.args.container))
    return 0


async def remove(context: Context) -> int:
    """Remove containers with their snapshots and logs."""
    client = context.client
    for name in context.args.container:
        container = await client.containers.get(name)
        await running.remove(client, name, force=context.args.force)
        with suppress(NotFound):
            logs.remove(client.namespace, name, logs.of(container))
    context.answer({"removed": context.args.container}, "\n".join(context.args.container))
    return 0


async def _ends(client: Client) -> dict[str, ExitRecord]:
    """How the first processes of containers ended last; nothing where the daemon keeps no records."""
    try:
        records = await client.exits.list(first_processes=True)
    except Unimplemented:
        return {}
    return {record.container_id: record for record in reversed(records)}


def _row(container: Container, state: ProcessState | None, end: ExitRecord | None) -> dict[str, object]:
    ended = state.exit if state else None
    return {
        "id": container.id,
        "image": container.image,
        "command": _command(container),
        "age": words.age(container.created_at),
        "created_at": format_rfc3339(container.created_at) if container.created_at else None,
        "status": _status(state, end),
        "pid": state.pid if state and not ended else None,
        "exit_code": ended.code if ended else None,
        "reason": end.reason if end and _is_over(state) else None,
        "exited_at": format_rfc3339(ended.at) if ended and ended.at else None,
        "labels": dict(container.labels),
    }


def _status(state: ProcessState | None, end: ExitRecord | None) -> str:
    if state is None:
        return f"ended: {end.reason}" if end else "created"
    name = state.status.name.lower()
    if state.exit is None:
        return name
    explained = end is not None and end.signal
    return f"{name} ({state.exit.code})" + (f": {end.reason}" if end and explained else "")


def _is_over(state: ProcessState | None) -> bool:
    return state is None or state.exit is not None


def _command(container: Container) -> str:
    with suppress(FailedPrecondition):
        process = running.spec_of(container).get("process")
        return " ".join(str(word) for word in (process or {}).get("args") or ())
    return ""
