"""The entry of `sctr`: parse, connect, run one command, answer with an exit code."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from supervisor.cli import problems
from supervisor.cli.arguments import parser
from supervisor.cli.context import JSON, Context
from supervisor.client.client import Client
from supervisor.errors import SupervisorError
from supervisor.model.identifiers import namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        return asyncio.run(_run(args))
    except SupervisorError as error:
        problems.tell(error, as_json=args.output == JSON)
        return problems.FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        return problems.INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has left; there is nobody to complain to, also not at exit.
        sys.stderr.close()
        return problems.FAILED


async def _run(args: argparse.Namespace) -> int:
    _end_in_order()
    async with Client(args.address, namespace(args.namespace)) as client:
        return int(await args.command_function(Context(client, args)))


def _end_in_order() -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does: what it began is undone first."""
    command = asyncio.current_task()
    assert command is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, command.cancel)


if __name__ == "__main__":
    sys.exit(main())
