"""Runs of collection, one after the other, at the times of the schedule (containerd: plugins/gc).

The schedule decides (supervisor.gc.schedule), the collector works in a thread; here is only who waits
for whom. Whoever asks for a run gets one that began after the question, and its very end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from types import TracebackType
from typing import Self

from supervisor.blocking import in_thread
from supervisor.errors import SupervisorError
from supervisor.gc.collector import Collector, Statistics
from supervisor.gc.schedule import Schedule, Settings
from supervisor.metadata.database import Database

log = logging.getLogger(__name__)

Waiters = list["asyncio.Future[Statistics]"]


class Scheduler:
    """Collects while it is entered. All but its construction is for the event loop."""

    def __init__(self, collector: Collector, database: Database, settings: Settings) -> None:
        self.collector = collector
        self.settings = settings
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._schedule = Schedule(settings, time.monotonic())
        self._changed = asyncio.Event()
        self._waiters: Waiters = []
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to watch the store, and to collect."""
        self._database.observe(self._observed)
        self._task = asyncio.create_task(self._run(), name="garbage collection")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, with the slice that is being done; who waits is told that there is no run any more."""
        self._database.observe(lambda writes, deletions: None)
        self.collector.stop()
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        async with self._turn:  # a run goes on in its thread until it notices
            self._tell(self._waiters, None)

    async def collect(self) -> Statistics:
        """Have a run made and wait for its end; raises SupervisorError when it failed."""
        waiter: asyncio.Future[Statistics] = self._loop.create_future()
        self._waiters.append(waiter)
        self._schedule.asked(time.monotonic())
        self._changed.set()
        return await waiter

    async def run_plan(self, plan_id: str) -> Statistics:
        """Remove what a plan lists; raises NotFound."""
        async with self._turn:
            return await in_thread(self.collector.run_plan, plan_id)

    def _observed(self, writes: int, deletions: int) -> None:
        """On the writer's thread."""
        self._loop.call_soon_threadsafe(self._note, writes, deletions)

    def _note(self, writes: int, deletions: int) -> None:
        before = self._schedule.due
        self._schedule.wrote(writes, deletions, time.monotonic())
        if self._schedule.due != before:
            self._changed.set()

    async def _run(self) -> None:
        while True:
            due = self._schedule.due
            if due is not None and due <= time.monotonic():
                await self._collect()
            else:
                await self._wait(due)

    async def _wait(self, due: float | None) -> None:
        """Until it is time, or the time has changed."""
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _collect(self) -> None:
        async with self._turn:
            waiters, self._waiters = self._waiters, []
            self._schedule.started()
            try:
                done = await in_thread(self.collector.run)
            except Exception:  # the border to all that a run may meet: it must not end collection for good
                log.exception("a garbage collection failed; it is tried again")
                self._schedule.failed(time.monotonic())
                self._tell(waiters, None)
            else:
                self._schedule.finished(done.metadata, time.monotonic())
                log.debug("collected %s", done)
                self._tell(waiters, done)

    def _tell(self, waiters: Waiters, done: Statistics | None) -> None:
        for waiter in waiters:
            if waiter.done():  # the caller gave up
                continue
            if done is None:
                waiter.set_exception(SupervisorError("gc failed"))
            else:
                waiter.set_result(done)
