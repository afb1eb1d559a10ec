"""`sctr exec`: one more process in a running container."""

from __future__ import annotations

import secrets
from contextlib import suppress

from supervisor.cli import problems, session
from supervisor.cli.context import Context
from supervisor.client import running, stdio
from supervisor.client.tasks import Process, Status
from supervisor.errors import FailedPrecondition, NotFound, SupervisorError

_ID_BYTES = 6


async def execute(context: Context) -> int:
    """Add a process, sit in front of it, answer its exit code."""
    args, client = context.args, context.client
    container = await client.containers.get(args.container)
    task = client.tasks.of(container.id)
    await _refuse_unless_running(task)
    process = running.exec_process(
        container, args.command, env=args.env, terminal=args.terminal, working_dir=args.workdir or ""
    )
    exec_id = f"exec-{secrets.token_hex(_ID_BYTES)}"
    async with stdio.fifos(context.fifo_directory, stdin=args.interactive, terminal=args.terminal) as ends:
        added = await task.exec(exec_id, process, ends.streams)
        try:
            return (await session.attend(added, ends)).code
        except SupervisorError as error:
            problems.tell(error, as_json=context.as_json)
            return problems.start_code(error)
        finally:
            with suppress(NotFound, FailedPrecondition):  # gone with its container, or left running by us
                await added.delete()


async def _refuse_unless_running(task: Process) -> None:
    try:
        status = (await task.state()).status
    except NotFound:
        raise FailedPrecondition(f"exec in {task.container_id}: it is not running") from None
    if status is not Status.RUNNING:
        raise FailedPrecondition(f"exec in {task.container_id}: it is {status.name.lower()}, not running")
