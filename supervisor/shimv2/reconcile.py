"""Taking over at start what an earlier daemon left: rows, bundles, shims (contract 4.6).

Unlike containerd, a task that stopped while no daemon was there is kept, and its exit is told: by its
shim if that still has the event, with what only the shim knows, or else by us. Half-made tasks are
undone, half-deleted ones finished. A task that cannot be dealt with is reported and left; it stops
neither the others nor the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from supervisor.api.runtime.task.v3 import shim_pb2 as pb
from supervisor.api.types.task import task_pb2
from supervisor.blocking import in_thread
from supervisor.errors import DeadlineExceeded, NotFound, SupervisorError
from supervisor.metadata import tasks as rows
from supervisor.metadata.store import Store
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.task import Exit, TaskRecord, TaskState
from supervisor.shimv2 import bundle as bundles
from supervisor.shimv2.background import Background
from supervisor.shimv2.bootstrap import ShimAddress, socket_path
from supervisor.shimv2.bundle import Bundle
from supervisor.shimv2.client import ShimClient
from supervisor.shimv2.leftovers import kill_starting
from supervisor.shimv2.removal import Removal
from supervisor.shimv2.settings import ShimSettings
from supervisor.shimv2.shim_log import opened
from supervisor.shimv2.tasks import Phase, Registry, Task
from supervisor.ttrpc.calls import ConnectionClosed

PARALLEL = 16
TELLING_SECONDS = 2.5
"""How long a shim is given to tell of an exit itself; containerd's tries again every second."""

log = logging.getLogger(__name__)


class Reconciliation:
    """One start's reconciliation of tasks."""

    def __init__(
        self,
        settings: ShimSettings,
        store: Store,
        registry: Registry,
        removal: Removal,
        background: Background,
    ) -> None:
        self._background = background
        self._settings = settings
        self._store = store
        self._registry = registry
        self._removal = removal
        self._limit = asyncio.Semaphore(PARALLEL)

    async def run(self) -> list[Task]:
        """Deal with every task; answers those that live on."""
        await in_thread(bundles.remove_leftovers, self._settings)
        records = await self._store.read(rows.find_all)
        made = [record for record in records if record.state is not TaskState.CREATING]
        half_made = [record for record in records if record.state is TaskState.CREATING]
        kept = await asyncio.gather(*map(self._guarded, made))
        # After the others: only then is it known which shims serve tasks that are kept.
        await asyncio.gather(*map(self._guarded, half_made))
        await in_thread(self._report_strays, records)
        return [task for task in kept if task is not None]

    async def _guarded(self, record: TaskRecord) -> Task | None:
        async with self._limit:
            try:
                return await self._one(record)
            except (SupervisorError, OSError) as error:
                log.error("task %s/%s is set aside: %s", record.namespace, record.id, error)
                return None

    async def _one(self, record: TaskRecord) -> Task | None:
        """Connect to the task's shim and bring the task to where it belongs; None when it is gone."""
        bundle = Bundle.of(self._settings, record.namespace, record.id)
        task = Task(bundle, Path(record.shim.binary), self._settings.timeouts)
        task.address = _address(record)
        self._registry.add(task)
        if record.state is TaskState.CREATING:
            await self._undo(task)
            return None
        await self._connect(task)
        if record.state is TaskState.DELETING:
            return await self._resume_delete(task)
        if task.shim is None:
            await self._removal.lost(task)
            return None
        return await self._take_over(task, record)

    async def _connect(self, task: Task) -> None:
        """Set the task's shim if there is one that listens."""
        if task.address is None:
            return
        try:
            task.shim = await ShimClient.connect(task.address, task.namespace)
        except NotFound:
            return
        task.log = opened(task.bundle.log, f"{task.namespace}/{task.id}")

    async def _undo(self, task: Task) -> None:
        """Nobody was told of this task; its shim may be there, half there, or on its way."""
        task.address = task.address or await in_thread(self._guess, task.bundle)
        await self._connect(task)
        if task.shim is None:
            keep = {other.shim_pid for other in self._registry if other.shim_pid}
            await in_thread(kill_starting, task.bundle, self._settings.grpc_address, keep)
        await self._removal.abandon(task)

    def _guess(self, bundle: Bundle) -> ShimAddress:
        """Where the shim of a half-made task would listen."""
        noted = bundle.shim_address()
        if noted is not None:
            return noted
        names = (str(self._settings.socket_dir), self._settings.grpc_address, bundle.namespace, bundle.id)
        return ShimAddress(3, f"unix://{socket_path(*names)}")

    async def _resume_delete(self, task: Task) -> Task | None:
        if task.shim is None:
            await self._removal.finish(task, await self._removal.recorded_exit(task))
            return None
        try:
            await self._removal.delete(task)
        except SupervisorError as error:
            # The shim refuses because the task runs: the delete had not come far, and is forgotten.
            log.warning("the delete of task %s/%s is not resumed: %s", task.namespace, task.id, error)
            return task if task.phase is Phase.READY else None
        return None

    async def _take_over(self, task: Task, record: TaskRecord) -> Task | None:
        limit = self._settings.timeouts.shim_load
        try:
            request = pb.ConnectRequest(id=task.id)
            task.shim_pid = (await task.call("Connect", request, pb.ConnectResponse, limit)).shim_pid
            state = await task.state("", limit)
        except DeadlineExceeded:
            # It may only be slow. Killing its container for that would be the worse mistake.
            log.warning("the shim of task %s/%s does not answer; kept as it is", task.namespace, task.id)
            return task
        except (NotFound, ConnectionClosed):
            await self._removal.lost(task)
            return None
        if state.status == task_pb2.STOPPED:
            self._background.start(self._note_exit(task, state))
        return task

    async def _note_exit(self, task: Task, state: pb.StateResponse) -> None:
        """Store and tell an exit unless the shim does so in time; it would also say why."""
        await asyncio.sleep(TELLING_SECONDS)
        moment = Nanoseconds(state.exited_at.seconds * SECOND + state.exited_at.nanos)
        end = Exit(state.pid, state.exit_status, moment)
        await self._store.write(rows.missed_exit, task.namespace, task.id, "", end)

    def _report_strays(self, records: Sequence[TaskRecord]) -> None:
        known = {(record.namespace, record.id) for record in records}
        for namespace, id_ in bundles.on_disk(self._settings):
            if (namespace, id_) not in known:
                log.error(
                    "bundle %s belongs to no task of the store; it is left alone, a shim may run there",
                    self._settings.bundles / namespace / id_,
                )


def _address(record: TaskRecord) -> ShimAddress | None:
    if not record.shim.address:
        return None
    return ShimAddress(record.shim.version, record.shim.address, record.shim.protocol)
