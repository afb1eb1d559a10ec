"""Work that the daemon does again and again, for as long as it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from supervisor.errors import SupervisorError

log = logging.getLogger(__name__)


@asynccontextmanager
async def repeating(work: Callable[[], Awaitable[object]], seconds: float) -> AsyncIterator[None]:
    """Do `work` now, and every so many seconds until the block ends; what fails is logged and tried again."""
    await work()
    async with asyncio.TaskGroup() as group:
        repeated = group.create_task(_repeat(work, seconds))
        yield
        repeated.cancel()


async def _repeat(work: Callable[[], Awaitable[object]], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except SupervisorError as error:
            log.warning("work that is done every %s s failed: %s", seconds, error)
