"""containerd.services.tasks.v1.Tasks (containerd: plugins/services/tasks). Rules: contract tasks 4."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from google.protobuf.empty_pb2 import Empty

from supervisor.api.runtime.task.v3 import shim_pb2 as shim
from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.types.metrics_pb2 import Metric
from supervisor.api.types.task import task_pb2
from supervisor.blocking import in_background, in_thread
from supervisor.errors import FailedPrecondition, InvalidArgument, NotFound, SupervisorError
from supervisor.kernel.cgroup_moves import expect_move
from supervisor.metadata import containers, exits
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.store import Store
from supervisor.model import instant
from supervisor.model.any import Any
from supervisor.model.container import Container
from supervisor.model.filters import parse_all
from supervisor.model.identifiers import Namespace, check_identifier, container_id
from supervisor.model.predicate import Lookup, Path, predicate
from supervisor.model.task import Exit, Stdio
from supervisor.services import checkpoints
from supervisor.services.context import Context, lease_of, namespace_of
from supervisor.services.convert import from_descriptor, from_instant, optional_any, to_descriptor, to_mount
from supervisor.shimv2.manager import Manager, NewTask
from supervisor.shimv2.options import check_shim_is_ours_to_start
from supervisor.shimv2.tasks import Task

log = logging.getLogger(__name__)


class Tasks:
    """Relays to the shims; what a shim would not survive is refused here."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Tasks"]

    def __init__(self, store: Store, manager: Manager, content: ContentStore) -> None:
        self._store = store
        self._content = content
        self._manager = manager
        self._timeouts = manager.settings.timeouts

    async def Create(self, request: pb.CreateTaskRequest, context: Context) -> pb.CreateTaskResponse:
        """Make a container's task, up to but without running its process."""
        namespace = namespace_of(context)
        check_shim_is_ours_to_start(request.task_api_address)
        container = self._store.look_up(containers.get, namespace, request.container_id)
        wanted = self._with_checkpoint(_new_task(namespace, container, request), request)
        pid = await self._manager.create(wanted)
        if wanted.checkpoint and request.HasField("checkpoint"):
            task = self._manager.get(namespace, wanted.id)
            pid = (await task.call("Start", shim.StartRequest(id=task.id), shim.StartResponse)).pid
        return pb.CreateTaskResponse(container_id=request.container_id, pid=pid)

    async def Start(self, request: pb.StartRequest, context: Context) -> pb.StartResponse:
        """Run the task's process, or an exec's."""
        task = await self._task(context, request.container_id)
        if request.exec_id:
            return await self._start_exec(task, request.exec_id)
        async with self._recorded(task, ""):
            answer = await task.call("Start", shim.StartRequest(id=task.id), shim.StartResponse)
        return pb.StartResponse(pid=answer.pid)

    async def Delete(self, request: pb.DeleteTaskRequest, context: Context) -> pb.DeleteResponse:
        """Delete a task that does not run; answers how it had ended."""
        task = await self._task(context, request.container_id)
        return _deleted("", await self._manager.delete(task))

    async def DeleteProcess(self, request: pb.DeleteProcessRequest, context: Context) -> pb.DeleteResponse:
        """Delete an exec that does not run."""
        task = await self._task(context, request.container_id)
        if not request.exec_id:
            raise InvalidArgument("exec id cannot be empty; the task itself is deleted with Delete")
        answer = await task.call(
            "Delete", shim.DeleteRequest(id=task.id, exec_id=request.exec_id), shim.DeleteResponse
        )
        task.failed_execs.discard(request.exec_id)
        await self._store.write(exits.retire, task.namespace, task.id, request.exec_id)
        return pb.DeleteResponse(
            id=request.exec_id, pid=answer.pid, exit_status=answer.exit_status, exited_at=answer.exited_at
        )

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        """What a process does now."""
        task = await self._task(context, request.container_id)
        state = await task.state(request.exec_id, self._timeouts.task_state)
        return pb.GetResponse(process=_process(request.exec_id or task.id, state))

    async def List(self, request: pb.ListTasksRequest, context: Context) -> pb.ListTasksResponse:
        """The tasks of the namespace; the filter is ignored, as containerd does."""
        tasks = self._manager.of(namespace_of(context))
        listed = await asyncio.gather(*map(self._listed, tasks))
        return pb.ListTasksResponse(tasks=[process for process in listed if process is not None])

    async def Kill(self, request: pb.KillRequest, context: Context) -> Empty:
        """Send a signal to a process, or to all of the container."""
        task = await self._task(context, request.container_id)
        wanted = shim.KillRequest(
            id=task.id,
            exec_id=request.exec_id,
            signal=request.signal,
            all=request.all and not request.exec_id,
        )
        return await task.call("Kill", wanted, Empty)

    async def Exec(self, request: pb.ExecProcessRequest, context: Context) -> Empty:
        """Register a further process; Start runs it."""
        task = await self._task(context, request.container_id)
        _check_exec(request)
        wanted = shim.ExecProcessRequest(
            id=task.id,
            exec_id=request.exec_id,
            terminal=request.terminal,
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            spec=request.spec,
        )
        in_background(expect_move)  # the runtime's, when it is started: as a rule at once
        return await task.call("Exec", wanted, Empty)

    async def ResizePty(self, request: pb.ResizePtyRequest, context: Context) -> Empty:
        """Set the size of a process's terminal."""
        task = await self._task(context, request.container_id)
        wanted = shim.ResizePtyRequest(
            id=task.id, exec_id=request.exec_id, width=request.width, height=request.height
        )
        return await task.call("ResizePty", wanted, Empty)

    async def CloseIO(self, request: pb.CloseIORequest, context: Context) -> Empty:
        """Let a process see the end of its stdin, once every writer has closed it."""
        task = await self._task(context, request.container_id)
        if not request.stdin:
            return Empty()
        wanted = shim.CloseIORequest(id=task.id, exec_id=request.exec_id, stdin=True)
        return await task.call("CloseIO", wanted, Empty)

    async def Pause(self, request: pb.PauseTaskRequest, context: Context) -> Empty:
        """Freeze all processes of the container."""
        task = await self._task(context, request.container_id)
        return await task.call("Pause", shim.PauseRequest(id=task.id), Empty)

    async def Resume(self, request: pb.ResumeTaskRequest, context: Context) -> Empty:
        """Undo Pause."""
        task = await self._task(context, request.container_id)
        return await task.call("Resume", shim.ResumeRequest(id=task.id), Empty)

    async def ListPids(self, request: pb.ListPidsRequest, context: Context) -> pb.ListPidsResponse:
        """The host's pids of all processes of the container."""
        task = await self._task(context, request.container_id)
        answer = await task.call("Pids", shim.PidsRequest(id=task.id), shim.PidsResponse)
        return pb.ListPidsResponse(processes=answer.processes)

    async def Checkpoint(
        self, request: pb.CheckpointTaskRequest, context: Context
    ) -> pb.CheckpointTaskResponse:
        """Dump the container's processes, to a folder of the client's choice or into the content store."""
        task = await self._task(context, request.container_id)
        options = checkpoints.options_of(request.options)
        if options.image_path:
            await _dump(task, options.image_path, request)
            return pb.CheckpointTaskResponse()
        folder = await in_thread(checkpoints.make_folder, task.bundle.work)
        try:
            await _dump(task, str(folder), request)
            container = self._store.look_up(containers.get, task.namespace, task.id)
            blobs = checkpoints.CheckpointBlobs(self._content, task.namespace, lease_of(context))
            made = await in_thread(blobs.store, folder, container.spec)
        finally:
            await in_thread(shutil.rmtree, folder, True)
        return pb.CheckpointTaskResponse(descriptors=map(from_descriptor, made))

    async def Update(self, request: pb.UpdateTaskRequest, context: Context) -> Empty:
        """Change the resource limits of the container."""
        task = await self._task(context, request.container_id)
        if not request.resources.value:
            raise InvalidArgument("update of a task needs resources, the JSON of LinuxResources")
        wanted = shim.UpdateTaskRequest(
            id=task.id, resources=request.resources, annotations=request.annotations
        )
        return await task.call("Update", wanted, Empty)

    async def Metrics(self, request: pb.MetricsRequest, context: Context) -> pb.MetricsResponse:
        """Resource usage of the tasks that pass the filters; those that cannot tell are left out."""
        wanted = predicate(parse_all(request.filters))
        tasks = [task for task in self._manager.of(namespace_of(context)) if wanted(_lookup(task))]
        metrics = await asyncio.gather(*map(self._metric, tasks))
        return pb.MetricsResponse(metrics=[metric for metric in metrics if metric is not None])

    async def Wait(self, request: pb.WaitRequest, context: Context) -> pb.WaitResponse:
        """Answer once a process has ended, or at once if it has."""
        task = await self._task(context, request.container_id)
        end = await task.wait(request.exec_id)
        return pb.WaitResponse(exit_status=end.status, exited_at=from_instant(end.exited_at))

    async def _task(self, context: Context, id_: str) -> Task:
        """The task of a request; NotFound says whether the container or only its task is missing."""
        namespace = namespace_of(context)
        try:
            return self._manager.get(namespace, id_)
        except NotFound:
            self._store.look_up(containers.get, namespace, id_)
            raise

    def _with_checkpoint(self, wanted: NewTask, request: pb.CreateTaskRequest) -> NewTask:
        """The task, restored from where the request or its options say."""
        given = to_descriptor(request.checkpoint) if request.HasField("checkpoint") else None
        folder = checkpoints.folder_of(given, wanted.options)
        if given is None or folder:
            return replace(wanted, checkpoint=folder)
        tmp_root = self._manager.settings.root / "tmpmounts"
        unpack = checkpoints.unpacker(self._content, wanted.namespace, given, tmp_root)
        return replace(wanted, unpack=unpack)

    async def _start_exec(self, task: Task, exec_id: str) -> pb.StartResponse:
        if exec_id in task.failed_execs:
            raise FailedPrecondition(f"exec {exec_id} failed to start before; delete it and make another")
        try:
            request = shim.StartRequest(id=task.id, exec_id=exec_id)
            async with self._recorded(task, exec_id):
                answer = await task.call("Start", request, shim.StartResponse)
        except NotFound:
            raise
        except SupervisorError:
            # Containerd's shim dies of a second Start, and the whole container with it.
            task.failed_execs.add(exec_id)
            raise
        return pb.StartResponse(pid=answer.pid)

    @asynccontextmanager
    async def _recorded(self, task: Task, exec_id: str) -> AsyncIterator[None]:
        """Keep on record what the runtime says of a process that it could not start."""
        try:
            yield
        except NotFound:
            raise
        except SupervisorError as error:
            await self._store.write(exits.failed, task.namespace, task.id, exec_id, str(error))
            raise

    async def _listed(self, task: Task) -> task_pb2.Process | None:
        try:
            return _process(task.id, await task.state("", self._timeouts.task_state))
        except NotFound:
            return None
        except SupervisorError as error:
            log.warning("the state of task %s/%s is unknown: %s", task.namespace, task.id, error)
            return task_pb2.Process(id=task.id, status=task_pb2.UNKNOWN)

    async def _metric(self, task: Task) -> Metric | None:
        try:
            request = shim.StatsRequest(id=task.id)
            answer = await task.call("Stats", request, shim.StatsResponse, self._timeouts.shim_stats)
        except SupervisorError as error:
            log.info("no metrics of task %s/%s: %s", task.namespace, task.id, error)
            return None
        return Metric(timestamp=from_instant(instant.now()), id=task.id, data=answer.stats)


async def _dump(task: Task, folder: str, request: pb.CheckpointTaskRequest) -> None:
    wanted = shim.CheckpointTaskRequest(id=task.id, path=folder, options=request.options)
    await task.call("Checkpoint", wanted, Empty)


def _new_task(namespace: Namespace, container: Container, request: pb.CreateTaskRequest) -> NewTask:
    own_options = optional_any(request, "options")
    return NewTask(
        namespace=namespace,
        id=container_id(container.id),
        runtime=request.runtime_path or container.runtime.name,
        spec=_payload(container.spec),
        options=own_options if own_options and own_options.type_url else container.runtime.options,
        rootfs=tuple(map(to_mount, request.rootfs)),
        stdio=Stdio(request.stdin, request.stdout, request.stderr, request.terminal),
    )


def _payload(value: Any | None) -> bytes:
    return b"" if value is None else value.value


def _check_exec(request: pb.ExecProcessRequest) -> None:
    if not request.exec_id:
        raise InvalidArgument("exec id cannot be empty")
    try:
        check_identifier(request.exec_id)
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid exec id {request.exec_id}: {error}") from None
    if not request.spec.value:
        raise InvalidArgument(f"exec {request.exec_id} needs a spec, the JSON of a Process")


def _process(id_: str, state: shim.StateResponse) -> task_pb2.Process:
    return task_pb2.Process(
        id=id_,
        pid=state.pid,
        status=state.status,
        stdin=state.stdin,
        stdout=state.stdout,
        stderr=state.stderr,
        terminal=state.terminal,
        exit_status=state.exit_status,
        exited_at=state.exited_at,
    )


def _deleted(id_: str, end: Exit) -> pb.DeleteResponse:
    return pb.DeleteResponse(
        id=id_, pid=end.pid, exit_status=end.status, exited_at=from_instant(end.exited_at)
    )


def _lookup(task: Task) -> Lookup:
    fields: dict[Path, str] = {("id",): task.id, ("namespace",): task.namespace}
    return fields.get
