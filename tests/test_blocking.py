"""What crosses into threads is done, whatever becomes of who asked for it."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from supervisor.blocking import MAX_THREADS, Arrivals, in_thread


async def test_a_call_that_waits_for_its_thread_is_made_although_its_caller_is_cancelled() -> None:
    gate, done = threading.Event(), threading.Event()
    busy = [asyncio.ensure_future(in_thread(gate.wait, 30)) for _ in range(MAX_THREADS)]
    waiting = asyncio.ensure_future(in_thread(done.set))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not done.is_set()
    gate.set()
    await asyncio.gather(*busy)
    assert await in_thread(done.wait, 30)


async def test_what_a_thread_settles_arrives_at_one_flush() -> None:
    arrivals, futures = Arrivals(), [Future[int]() for _ in range(3)]
    waiting = [asyncio.ensure_future(arrivals.wait(future)) for future in futures]
    await asyncio.sleep(0)

    def settle() -> None:
        futures[0].set_result(1)
        futures[1].set_exception(ValueError("no"))
        arrivals.flush()

    await in_thread(settle)
    assert await waiting[0] == 1
    with pytest.raises(ValueError, match="no"):
        await waiting[1]
    waiting[2].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[2]
    assert futures[2].cancelled()
    assert await arrivals.wait(futures[0]) == 1  # settled before anybody waited


def test_a_flush_for_a_loop_that_is_gone() -> None:
    arrivals, future = Arrivals(), Future[int]()

    async def wait() -> None:
        task = asyncio.ensure_future(arrivals.wait(future))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(wait())
    arrivals.flush()
