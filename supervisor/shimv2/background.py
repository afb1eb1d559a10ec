"""Work that must reach its end although the caller who began it gave up, owned by one TaskGroup."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any as Anything
from typing import TypeVar

T = TypeVar("T")

GRACE = 10.0  # seconds that unfinished work is given when the daemon stops

log = logging.getLogger(__name__)


class Background:
    """Runs coroutines apart from their callers, while inside its `async with`.

    What is still unfinished some time after the end of the `with` began is cancelled; the store knows
    what was under way, and the next daemon finishes it.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Background:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE)
        for task in list(self._tasks):
            task.cancel()
        await self._group.__aexit__(None, None, None)

    def start(self, work: Coroutine[Anything, Anything, T]) -> asyncio.Future[T]:
        """Begin `work`; the future has its outcome, and may be dropped. Cancelling it cancels the work."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(_note)
        task = self._group.create_task(_settle(work, outcome))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        outcome.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        return outcome

    async def carry(self, work: Coroutine[Anything, Anything, T]) -> T:
        """Run `work` and wait for it; a caller who is cancelled leaves, the work goes on."""
        return await asyncio.shield(self.start(work))


async def _settle(work: Coroutine[Anything, Anything, T], outcome: asyncio.Future[T]) -> None:
    try:
        result = await work
    except asyncio.CancelledError:
        outcome.cancel()
        raise
    # The border of the group: one failure must not cancel the others, its future tells of it.
    except Exception as error:
        if not outcome.done():
            outcome.set_exception(error)
    else:
        if not outcome.done():
            outcome.set_result(result)


def _note(outcome: asyncio.Future[Anything]) -> None:
    """Log what failed: perhaps nobody waits any more."""
    if not outcome.cancelled() and (error := outcome.exception()) is not None:
        log.debug("work in the background failed: %s", error)
