"""Where work crosses between the event loop and threads: one pool, one bound.

The core is synchronous; services hand it over here. Nothing else in the daemon starts threads for
work of its own, so the number of threads is known.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
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


async def settled(future: concurrent.futures.Future[T]) -> T:
    """Wait for a future that another thread will settle."""
    return await asyncio.wrap_future(future)


def in_background(job: Callable[[], None]) -> None:
    """Run a job that nobody waits for in the pool; callable from any thread. What it raises is logged."""
    _POOL.submit(_logged, job)


def _logged(job: Callable[[], None]) -> None:
    try:
        job()
    except Exception:
        log.exception("a background job failed")
