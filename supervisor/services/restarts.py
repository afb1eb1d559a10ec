"""Has containers run again that ended, by the labels that say so (containerd: plugins/restart).

It acts on events at once, looks at everything now and then, and sleeps until the next attempt is due.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from google.protobuf.empty_pb2 import Empty

from supervisor.api.runtime.task.v3 import shim_pb2 as shim
from supervisor.api.types.task import task_pb2
from supervisor.blocking import in_thread
from supervisor.errors import InvalidArgument, NotFound, SupervisorError
from supervisor.events.exchange import Exchange
from supervisor.metadata import containers, exits, restarts
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshots import Snapshots
from supervisor.metadata.store import Store
from supervisor.model.container import Container
from supervisor.model.identifiers import Namespace, container_id
from supervisor.model.instant import SECOND, Nanoseconds, now
from supervisor.model.restart import (
    LOG_PATH_LABEL,
    LOG_URI_LABEL,
    STATUS_LABEL,
    Attempts,
    Ended,
    RestartSettings,
    next_at,
    refusal,
    still_in_a_row,
)
from supervisor.model.task import Stdio
from supervisor.shimv2.manager import Manager, NewTask
from supervisor.shimv2.tasks import Task

log = logging.getLogger(__name__)

_TOPICS = frozenset(("/tasks/exit", "/tasks/delete", "/containers/update", "/containers/delete"))
_GATHER_SECONDS = 0.05
"""Events that come together are looked at together; also a task is not deleted under whoever waits."""

_ENDS = (task_pb2.STOPPED, task_pb2.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Outlook:
    """How things stand for a container: what keeps it from running, and when its turn is."""

    why: str = ""
    due: Nanoseconds | None = None
    running: bool = False
    failed: bool = False
    """Whether `why` is about an attempt that was made, and holds until the next one."""


UNSEEN = Outlook()


class RestartMonitor:
    """Watches while it is entered; its own task, on the event loop."""

    def __init__(
        self,
        store: Store,
        manager: Manager,
        snapshots: Snapshots,
        exchange: Exchange,
        settings: RestartSettings,
    ) -> None:
        self._store = store
        self._manager = manager
        self._snapshots = snapshots
        self._exchange = exchange
        self._settings = settings
        self._chance = random.Random()  # noqa: S311  # spreads attempts, and hides nothing
        self._task: asyncio.Task[None] | None = None
        self._outlooks: dict[tuple[Namespace, str], Outlook] = {}
        self._started: set[tuple[Namespace, str]] = set()

    @property
    def settings(self) -> RestartSettings:
        """How it goes about it."""
        return self._settings

    def outlook(self, namespace: Namespace, id_: str) -> Outlook:
        """What it knows of a container."""
        return self._outlooks.get((namespace, id_), UNSEEN)

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        if self._settings.enabled:
            self._task = asyncio.create_task(self._run(), name="restart monitor")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; what is being started is started by the next daemon."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        with self._exchange.bell(_TOPICS) as rung:
            while True:
                rung.clear()
                try:
                    due = await self._look()
                except SupervisorError as error:
                    log.warning("the restart monitor could not look at the containers: %s", error)
                    due = None
                await self._sleep(rung, due)

    async def _sleep(self, rung: asyncio.Event, due: Nanoseconds | None) -> None:
        """Until something happens, an attempt is due, or it is time to look at everything."""
        wait = self._settings.interval
        if due is not None:
            wait = min(wait, max(0.0, (due - now()) / SECOND))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await rung.wait()
            await asyncio.sleep(_GATHER_SECONDS)

    async def _look(self) -> Nanoseconds | None:
        """Look at every container that is concerned; when the next attempt is due."""
        found = await self._store.read(restarts.concerned)
        concerned = {(namespace, container.id) for namespace, container in found}
        for key in self._outlooks.keys() - concerned:
            del self._outlooks[key]
        for key in self._started - concerned:
            if await self._is_cleared(*key):
                self._started.discard(key)
        if not found:
            return None
        outlooks = await asyncio.gather(*(self._consider(namespace, one) for namespace, one in found))
        return min((one.due for one in outlooks if one.due is not None), default=None)

    async def _is_cleared(self, namespace: Namespace, id_: str) -> bool:
        """Remove what was started of a container while it was being deleted: nobody else knows of it."""
        task = self._find(namespace, id_)
        if task is None or self._exists(namespace, id_):
            return True
        try:
            await self._stop(task, running=await self._ended(namespace, id_, task) is None)
        except SupervisorError as error:
            log.warning(
                "the task of container %s/%s, which is deleted, is there yet: %s", namespace, id_, error
            )
            return False
        return True

    def _exists(self, namespace: Namespace, id_: str) -> bool:
        try:
            self._store.look_up(containers.get, namespace, id_)
        except NotFound:
            return False
        return True

    async def _consider(self, namespace: Namespace, container: Container) -> Outlook:
        """Do what a container needs now, and keep in mind what comes of it."""
        outlook = await self._attend(namespace, container)
        # What keeps a container from running is logged once.
        if outlook.why and outlook.why != self.outlook(namespace, container.id).why:
            log.warning("container %s/%s %s", namespace, container.id, outlook.why)
        self._outlooks[namespace, container.id] = outlook
        return outlook

    async def _attend(self, namespace: Namespace, container: Container) -> Outlook:
        try:
            task = self._find(namespace, container.id)
            ended = await self._ended(namespace, container.id, task)
            if container.labels[STATUS_LABEL] == "stopped":
                if task is not None:
                    await self._stop(task, running=ended is None)
                return Outlook()
            if container.labels[STATUS_LABEL] != "running" or ended is None:
                return Outlook(running=ended is None)
            return await self._keep_running(namespace, container, task, ended)
        except SupervisorError as error:
            return Outlook(f"is not restarted: {error}")

    def _find(self, namespace: Namespace, id_: str) -> Task | None:
        try:
            return self._manager.get(namespace, id_)
        except NotFound:
            return None

    async def _ended(self, namespace: Namespace, id_: str, task: Task | None) -> Ended | None:
        """How it ended, None while it runs, or is being made by somebody."""
        if task is not None:
            state = await task.state("", self._manager.settings.timeouts.task_state)
            if state.status not in _ENDS:
                return None
            at = Nanoseconds(state.exited_at.seconds * SECOND + state.exited_at.nanos)
            return Ended(state.exit_status, at if at > 0 else None)
        try:
            exit_ = self._store.look_up(exits.get, namespace, id_, "").exit
        except NotFound:
            return Ended()
        return Ended(exit_.status, exit_.exited_at)

    async def _keep_running(
        self, namespace: Namespace, container: Container, task: Task | None, ended: Ended
    ) -> Outlook:
        if why := refusal(container.labels, ended):
            return Outlook(f"is left alone: {why}")
        made = self._store.look_up(restarts.attempts, namespace, container.id)
        made = still_in_a_row(made, ended, self._settings)
        due = next_at(made, ended, self._settings, self._chance)
        if due == 0:  # it has never run: whoever has just made it means to start it
            due = Nanoseconds(container.created_at + int(self._settings.interval * SECOND))
        if due is None:
            limit = f"{self._settings.start_limit} attempts in a row"
            return Outlook(f"is given up after {limit}; start it yourself to go on")
        if due > now():
            before = self.outlook(namespace, container.id)
            return Outlook(before.why if before.failed else "", due, failed=before.failed)
        made = Attempts(made.count + 1)
        await self._store.write(restarts.attempted, namespace, container.id, made)
        self._started.add((namespace, container.id))
        try:
            await self._start(namespace, container, task)
        except SupervisorError as error:
            failed = Attempts(made.count, now())
            due = next_at(failed, Ended(), self._settings, self._chance)
            return Outlook(f"could not be restarted: {error}", due, failed=True)
        log.info("container %s/%s runs again, attempt %d in a row", namespace, container.id, made.count)
        return Outlook(running=True)

    async def _start(self, namespace: Namespace, container: Container, task: Task | None) -> None:
        if task is not None:
            await self._manager.delete(task)
        place = Place(namespace, container.snapshotter)
        rootfs = await in_thread(self._snapshots.mounts, place, container.snapshot_key)
        wanted = NewTask(
            namespace,
            container_id(container.id),
            container.runtime.name,
            container.spec.value if container.spec else b"",
            container.runtime.options,
            rootfs,
            _stdio(container),
        )
        await self._manager.create(wanted)
        made = self._manager.get(namespace, container.id)
        await made.call("Start", shim.StartRequest(id=made.id), shim.StartResponse)

    async def _stop(self, task: Task, *, running: bool) -> None:
        """End a task that is not wanted, as containerd does: by force."""
        if running:
            await task.call("Kill", shim.KillRequest(id=task.id, signal=9, all=True), Empty)
            await task.wait("")
        await self._manager.delete(task)
        log.info("container %s/%s is stopped, as its label wants", task.namespace, task.id)


def _stdio(container: Container) -> Stdio:
    """Where its output goes; raises InvalidArgument for a log path that is none."""
    uri = container.labels.get(LOG_URI_LABEL, "")
    path = container.labels.get(LOG_PATH_LABEL, "")
    if path and not uri:
        if not path.startswith("/"):
            raise InvalidArgument(f"{LOG_PATH_LABEL} {path[:100]!r} must be an absolute path")
        uri = f"file://{path}"
    return Stdio(stdout=uri, stderr=uri)
