"""`sctr logs`: what a detached container has written, and writes."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from supervisor.cli import logs, session
from supervisor.cli.context import Context
from supervisor.cli.log_window import Wanted
from supervisor.cli.moments import moment
from supervisor.client.tasks import Task
from supervisor.errors import NotFound

# A file has no event for "longer now" that could be awaited; this often is soon enough for eyes.
_POLL_SECONDS = 0.1


async def show(context: Context) -> int:
    """Write the log to standard output; with -f until the container has ended, or until --until."""
    wanted = _wanted(context.args)
    container = await context.client.containers.get(context.args.container)
    reader = logs.Reader(logs.of(container), wanted)
    try:
        _copy(reader)
        if context.args.follow and not wanted.is_over:
            await _follow(context.client.tasks.of(container.id), reader, wanted)
    finally:
        reader.close()
    return 0


def _wanted(args: argparse.Namespace) -> Wanted:
    """What the options ask for; raises InvalidArgument."""
    since = None if args.since is None else moment(args.since, "--since")
    until = None if args.until is None else moment(args.until, "--until")
    return Wanted(since, until, args.tail)


async def _follow(task: Task, reader: logs.Reader, wanted: Wanted) -> None:
    ended = asyncio.ensure_future(_ended(task))
    try:
        while not ended.done() and not wanted.is_over:
            await asyncio.wait([ended], timeout=_POLL_SECONDS)
            _copy(reader)
        if not ended.done():
            return
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
