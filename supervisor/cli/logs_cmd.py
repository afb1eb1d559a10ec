"""`sctr logs`: what a detached container has written, and writes."""

from __future__ import annotations

import asyncio
import os
import sys

from supervisor.cli import logs, session
from supervisor.cli.context import Context
from supervisor.client.tasks import Task
from supervisor.errors import NotFound

# A file has no event for "longer now" that could be awaited; this often is soon enough for eyes.
_POLL_SECONDS = 0.1


async def show(context: Context) -> int:
    """Write the log to standard output; with -f until the container has ended."""
    container = await context.client.containers.get(context.args.container)
    reader = logs.Reader(logs.of(container))
    try:
        _copy(reader)
        if context.args.follow:
            await _follow(context.client.tasks.of(container.id), reader)
    finally:
        reader.close()
    return 0


async def _follow(task: Task, reader: logs.Reader) -> None:
    ended = asyncio.ensure_future(_ended(task))
    try:
        while not ended.done():
            await asyncio.wait([ended], timeout=_POLL_SECONDS)
            _copy(reader)
        await ended
        _copy(reader)
    finally:
        ended.cancel()


async def _ended(task: Task) -> None:
    try:
        await task.wait(patience=session.PATIENCE_SECONDS)
    except NotFound:
        return  # removed, or never started: nothing will be added


def _copy(reader: logs.Reader) -> None:
    """Copy what there is by now."""
    while data := reader.read():
        view = memoryview(data)
        while view:
            view = view[os.write(sys.stdout.fileno(), view) :]
