"""Where work crosses between the event loop and threads: one pool, one bound.

The core is synchronous; services hand it over here. Nothing else in the daemon starts threads for
work of its own, so the number of threads is known.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections import deque
from collections.abc import Callable
from typing import ParamSpec, TypeVar

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 32

_POOL = concurrent.futures.ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="blocking")


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call in the pool; when all threads are busy the caller waits its turn.

    A cancelled caller does not stop the call, which runs to its end; not even one that still waits for
    its thread, since it may be what a `finally` frees.
    """
    loop = asyncio.get_running_loop()
    return await asyncio.shield(loop.run_in_executor(_POOL, lambda: function(*args, **kwargs)))


class Arrivals:
    """Brings what another thread settles to the event loop: however many, with one wake-up.

    A wake-up is a write to a socket, at which that thread also hands over the interpreter; one for each
    of a batch would cost more than the batch.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._settled: deque[asyncio.Future[None]] = deque()

    async def wait(self, future: concurrent.futures.Future[T]) -> T:
        """Wait for a future whose thread calls `flush` after settling it."""
        self._loop = loop = asyncio.get_running_loop()
        arrived = loop.create_future()
        future.add_done_callback(lambda done: self._settled.append(arrived))
        if future.done():
            self._hand_out()
        try:
            await arrived
        except asyncio.CancelledError:
            future.cancel()
            raise
        return future.result()

    def flush(self) -> None:
        """Wake the event loop for all that was settled; callable from any thread."""
        if self._settled and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._hand_out)
            except RuntimeError:  # the loop is closed, and so nobody waits
                self._settled.clear()

    def _hand_out(self) -> None:
        while self._settled:
            arrived = self._settled.popleft()
            if not arrived.done():
                arrived.set_result(None)


def in_background(job: Callable[[], None]) -> None:
    """Run a job that nobody waits for in the pool; callable from any thread. What it raises is logged."""
    _POOL.submit(_logged, job)


def _logged(job: Callable[[], None]) -> None:
    try:
        job()
    except Exception:
        log.exception("a background job failed")
