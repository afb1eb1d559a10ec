"""Making tasks and keeping hold of them (containerd: core/runtime/v2/task_manager.go, shim_manager.go).

The order of a create is what a restart relies on: row, bundle, shim, its address in the bundle, the
shim's Create, row 'created' with the address. Whatever fails or is given up on the way is undone in full.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any as Anything
from typing import TypeVar

from supervisor.api.runtime.task.v3 import shim_pb2 as pb
from supervisor.api.types.mount_pb2 import Mount as MountMessage
from supervisor.api.types.task import task_pb2
from supervisor.blocking import in_background, in_thread
from supervisor.errors import Aborted, AlreadyExists, NotFound, SupervisorError, Unavailable
from supervisor.kernel.cgroup_moves import expect_move
from supervisor.metadata import exits
from supervisor.metadata import tasks as rows
from supervisor.metadata.store import Store
from supervisor.model.any import Any
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.mount import Mount
from supervisor.model.task import Exit, ShimRecord, Stdio, TaskRecord, TaskState
from supervisor.shimv2.background import Background
from supervisor.shimv2.binary import ShimBinaries
from supervisor.shimv2.bootstrap import ShimAddress
from supervisor.shimv2.bundle import Bundle
from supervisor.shimv2.client import ShimClient
from supervisor.shimv2.naming import shim_path
from supervisor.shimv2.options import completed
from supervisor.shimv2.reconcile import Reconciliation
from supervisor.shimv2.removal import Removal
from supervisor.shimv2.settings import ShimSettings
from supervisor.shimv2.shim_log import opened
from supervisor.shimv2.tasks import Phase, Registry, Task
from supervisor.ttrpc.calls import ConnectionClosed

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewTask:
    """What a client asks for. `options` are of the task or else of its container, never merged."""

    namespace: Namespace
    id: ContainerId
    runtime: str
    spec: bytes
    options: Any | None = None
    rootfs: tuple[Mount, ...] = ()
    stdio: Stdio = field(default_factory=Stdio)
    checkpoint: str = ""
    """A folder with a dump, from which Start restores the task."""
    unpack: Callable[[Path], None] | None = None
    """Fills a folder of the task with a dump, in place of `checkpoint`; blocks."""


class Manager:
    """All tasks of this daemon, while inside its `async with`; shims live on when it ends."""

    def __init__(self, settings: ShimSettings, store: Store) -> None:
        self.settings = settings
        self._store = store
        self._registry = Registry()
        self._background = Background()
        self._binaries = ShimBinaries(settings)
        self._removal = Removal(settings, store, self._binaries, self._registry)
        self._stopping = False
        self._patience: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Manager:
        """Take over what an earlier daemon left; when this returns, every task is known."""
        await self._background.__aenter__()
        await self._binaries.__aenter__()
        await in_thread(self._make_folders)
        reconciliation = Reconciliation(
            self.settings, self._store, self._registry, self._removal, self._background
        )
        taken_over = await reconciliation.run()
        for task in taken_over:
            self._publish(task)
        if self.settings.timeouts.task_unstarted:
            self._patience = asyncio.get_running_loop().call_later(
                self.settings.timeouts.task_unstarted,
                lambda: self._background.start(self._remove_unstarted(taken_over)),
            )
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stopping = True
        if self._patience is not None:
            self._patience.cancel()
        await self._background.__aexit__(None, None, None)
        for task in self._registry:
            task.disconnect()
            if not task.ended.done():
                task.ended.set_exception(Unavailable("the daemon is stopping; the task runs on"))
                task.ended.exception()  # nobody has to be waiting
        await asyncio.gather(*(task.shim.closed for task in self._registry if task.shim is not None))
        await self._binaries.__aexit__(*error)

    def get(self, namespace: str, id_: str) -> Task:
        """A task; raises NotFound, also while it is being made."""
        task = self._registry.find(namespace, id_)
        if task is None:
            raise NotFound(f"task {id_} not found")
        return task

    def of(self, namespace: str) -> list[Task]:
        """The tasks of a namespace."""
        return self._registry.of(namespace)

    async def create(self, wanted: NewTask) -> int:
        """Make a task; answers the pid of its process, which waits for Start.

        Raises AlreadyExists; otherwise the cause, and then nothing of the task is left.
        """
        binary = self._binary(wanted.runtime)
        options = completed(wanted.options, binary, self.settings.runtime_root)
        task = Task(Bundle.of(self.settings, wanted.namespace, wanted.id), binary, self.settings.timeouts)
        self._registry.add(task)
        in_background(expect_move)
        try:
            await self._store.note(rows.begin, _record(wanted, task))
            pid = await self._make(task, wanted, options)
        except AlreadyExists:
            # Only the row can say so here: an object that was set aside at start keeps its name.
            self._registry.drop(task)
            raise
        except BaseException as error:
            await self._background.carry(self._abandon(task, str(error) or "given up by its client"))
            raise
        self._publish(task)
        return pid

    async def delete(self, task: Task) -> Exit:
        """Delete a task that has ended, or was never started; raises SupervisorError when it still runs."""
        if task.phase is Phase.LOST:
            await asyncio.shield(task.ended)
        if task.ended.done():
            raise NotFound(f"task {task.id} not found")
        if task.deletion is not None and not task.deletion.done():
            # Somebody else deletes it already: what is refused there is refused here.
            await asyncio.shield(task.deletion)
            raise NotFound(f"task {task.id} not found")
        task.deletion = self._background.start(self._removal.delete(task))
        return await asyncio.shield(task.deletion)

    def _binary(self, runtime: str) -> Path:
        try:
            return shim_path(runtime, self.settings.runtimes)
        except SupervisorError as error:
            raise SupervisorError(f"failed to start shim: failed to resolve runtime path: {error}") from error

    async def _make(self, task: Task, wanted: NewTask, options: Any | None) -> int:
        with _attempting("start shim"):
            await self._step(task, self._make_bundle(task, wanted))
        request = _create_request(task, wanted, options)
        try:
            made = await self._made_by_shim(task, options, request)
        except Aborted as error:
            log.info("task %s/%s gets another shim: %s", task.namespace, task.id, error)
            task.disconnect()
            made = await self._made_by_shim(task, options, request)
        assert task.address is not None
        shim = _shim_record(task, task.address)
        await self._store.note(rows.created, task.namespace, task.id, shim, made.pid)
        return made.pid

    async def _made_by_shim(
        self, task: Task, options: Any | None, request: pb.CreateTaskRequest
    ) -> pb.CreateTaskResponse:
        """Start a shim, or join that of the group, and have it create; raises Aborted when that one ends.

        A shim ends with the last container of its group, also when another one joins just then: that has
        found it, perhaps even connected to it, and is not heard any more.
        """
        with _attempting("start shim"):
            await self._step(task, self._start_shim(task, options))
        joins = self._registry.is_shared(task)
        with _attempting("create shim task"):
            try:
                return await self._step(task, task.call("Create", request, pb.CreateTaskResponse))
            except ConnectionClosed as error:
                if not joins:
                    raise
                with suppress(SupervisorError):  # it may have begun, and been killed
                    await self._binaries.delete(task.binary, task.bundle)
                raise Aborted(f"{error}: the shim of its group has ended") from error

    async def _step(self, task: Task, work: Coroutine[Anything, Anything, T]) -> T:
        """One step of a create. It is not cut short when the client leaves: what it makes has to be known
        before it can be undone, and a shim goes on making whether or not somebody waits for it."""
        step = self._background.start(work)
        task.making = step
        return await asyncio.shield(step)

    async def _make_bundle(self, task: Task, wanted: NewTask) -> None:
        await in_thread(task.bundle.create, wanted.spec)
        if wanted.unpack is not None:
            await in_thread(wanted.unpack, _dump_of(task))

    async def _start_shim(self, task: Task, options: Any | None) -> None:
        """Start the shim, note in the bundle where it is, connect."""
        task.log = opened(task.bundle.log, f"{task.namespace}/{task.id}")
        address = await self._binaries.start(task.binary, task.bundle, options)
        task.address = address
        task.bundle.note_shim(task.binary, address)
        try:
            task.shim = await ShimClient.connect(address, task.namespace)
        except NotFound as error:
            raise Aborted(f"{error}: it has ended since it was found") from error

    def _publish(self, task: Task) -> None:
        """Let clients see a task, and watch its shim from now on."""
        task.phase = Phase.READY
        if task.shim is not None:
            task.shim.closed.add_done_callback(lambda _: self._shim_gone(task))

    def _shim_gone(self, task: Task) -> None:
        if task.phase is Phase.READY and not self._stopping:
            self._background.start(self._reconnect(task))

    async def _reconnect(self, task: Task) -> None:
        """Take the connection up again if the shim lives; only if not, clean up: that kills what it held."""
        assert task.address is not None
        try:
            shim = await self._renewed(task, task.address)
        except SupervisorError as error:
            log.warning("the shim of task %s/%s is gone: %s", task.namespace, task.id, error)
            if task.phase is Phase.READY:
                await self._removal.lost(task)
            return
        log.warning("the connection to the shim of task %s/%s was renewed", task.namespace, task.id)
        task.revive(shim)
        shim.closed.add_done_callback(lambda _: self._shim_gone(task))

    async def _remove_unstarted(self, taken_over: Sequence[Task]) -> None:
        """Delete those that nobody has started: their makers were cut off in between, and forget them.

        Docker for one neither starts such a task nor deletes it, and then can never start that container.
        """
        for task in taken_over:
            try:
                if task.phase is not Phase.READY or not await self._is_unstarted(task):
                    continue
                await self.delete(task)
            except (SupervisorError, OSError) as error:
                log.warning("task %s/%s stays as it is: %s", task.namespace, task.id, error)
                continue
            log.warning("task %s/%s was never started, and is deleted", task.namespace, task.id)

    async def _is_unstarted(self, task: Task) -> bool:
        state = await task.state("", self.settings.timeouts.task_state)
        return state.status == task_pb2.CREATED

    async def _renewed(self, task: Task, address: ShimAddress) -> ShimClient:
        shim = await ShimClient.connect(address, task.namespace)
        try:
            request = pb.ConnectRequest(id=task.id)
            await shim.call("Connect", request, pb.ConnectResponse, self.settings.timeouts.shim_load)
        except SupervisorError:
            shim.close()
            raise
        return shim

    async def _abandon(self, task: Task, why: str) -> None:
        try:
            await self._store.write(exits.failed, task.namespace, task.id, "", why)
            await self._removal.abandon(task)
        except (SupervisorError, OSError) as error:
            # The caller learns why the create failed; the next start of the daemon tries again.
            log.error("what was made of task %s/%s stays: %s", task.namespace, task.id, error)

    def _make_folders(self) -> None:
        for folder in (self.settings.bundles, self.settings.works, self.settings.runtime_root):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.settings.socket_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _attempting(what: str) -> Iterator[None]:
    try:
        yield
    except SupervisorError as error:
        raise type(error)(f"failed to {what}: {error}") from error


def _record(wanted: NewTask, task: Task) -> TaskRecord:
    return TaskRecord(
        namespace=wanted.namespace,
        id=wanted.id,
        state=TaskState.CREATING,
        bundle=str(task.bundle.path),
        runtime=wanted.runtime,
        shim=ShimRecord(str(task.binary)),
        stdio=wanted.stdio,
    )


def _shim_record(task: Task, address: ShimAddress) -> ShimRecord:
    return ShimRecord(str(task.binary), address.address, address.version, address.protocol)


def _dump_of(task: Task) -> Path:
    """Among what a task keeps, since it is read when the task is started."""
    return task.bundle.work / "restore"


def _create_request(task: Task, wanted: NewTask, options: Any | None) -> pb.CreateTaskRequest:
    request = pb.CreateTaskRequest(
        id=wanted.id,
        bundle=str(task.bundle.path),
        rootfs=[
            MountMessage(type=mount.type, source=mount.source, target=mount.target, options=mount.options)
            for mount in wanted.rootfs
        ],
        terminal=wanted.stdio.terminal,
        stdin=wanted.stdio.stdin,
        stdout=wanted.stdio.stdout,
        stderr=wanted.stdio.stderr,
        checkpoint=str(_dump_of(task)) if wanted.unpack is not None else wanted.checkpoint,
    )
    if options is not None:
        request.options.type_url, request.options.value = options.type_url, options.value
    return request
