"""What crosses into threads is done, whatever becomes of who asked for it."""

import asyncio
import threading

import pytest

from supervisor.blocking import MAX_THREADS, in_thread


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
