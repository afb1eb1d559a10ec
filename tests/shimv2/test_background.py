"""Work apart from its callers."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.shimv2.background import Background


async def test_a_caller_who_leaves_does_not_stop_the_work() -> None:
    done = asyncio.Event()
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    async with Background() as background:
        caller = asyncio.ensure_future(background.carry(work()))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        go.set()
        await done.wait()


async def test_a_failure_is_the_callers_and_nobody_elses() -> None:
    async def fail() -> None:
        raise ValueError("x")

    async def succeed() -> int:
        await asyncio.sleep(0)
        return 3

    async with Background() as background:
        background.start(fail())
        other = background.start(succeed())
        with pytest.raises(ValueError, match="x"):
            await background.carry(fail())
        assert await other == 3


async def test_the_end_waits_for_what_is_under_way() -> None:
    go = asyncio.Event()
    async with Background() as background:
        outcome = background.start(go.wait())
        asyncio.get_running_loop().call_soon(go.set)
    assert outcome.result() is True


async def test_cancelling_the_outcome_cancels_the_work() -> None:
    never = asyncio.Event()
    async with Background() as background:
        background.start(never.wait()).cancel()
