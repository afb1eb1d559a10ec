"""Tasks over gRPC, with our shim and runc behind: contract tasks 4.1 to 4.4 and 8."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.any_pb2 import Any as AnyMessage

from supervisor.api.runtime.task.v3 import shim_pb2 as shim
from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.services.tasks.v1 import tasks_pb2_grpc as rpc
from supervisor.api.types.descriptor_pb2 import Descriptor
from supervisor.api.types.mount_pb2 import Mount
from supervisor.api.types.runc.options.oci_pb2 import Options
from supervisor.api.types.task import task_pb2
from supervisor.content.local import LocalStore
from supervisor.metadata import containers
from supervisor.metadata.content_store import ContentStore
from supervisor.model.any import Any
from supervisor.model.container import Container, Runtime
from supervisor.model.instant import GO_ZERO_SECONDS
from supervisor.services.tasks import Tasks
from supervisor.ttrpc.protobuf import Layout
from supervisor.ttrpc.wire import Decoder, Frame
from tests.services.conftest import Serve
from tests.services.refusal import refusal
from tests.shimv2.conftest import NAMESPACE, Daemon, eventually, left_behind, spec, top

__all__ = ["top"]

pytestmark = pytest.mark.root

HEADERS = (("containerd-namespace", NAMESPACE),)


async def refused(call: Awaitable[object], code: int, text: str) -> None:
    name, details = await refusal(call)
    assert grpc.StatusCode[name].value[0] == code
    assert text in details


REQUEST_ENVELOPE = Layout("service method payload timeout_nano metadata", "service method")

EXEC = AnyMessage(type_url="types.containerd.io/opencontainers/runtime-spec/1/Process")


class Api:
    """The service's stub, with the namespace in every call, and the daemon behind it."""

    def __init__(self, stub: rpc.TasksStub, daemon: Daemon) -> None:
        self._stub = stub
        self.daemon = daemon

    def __getattr__(self, method: str) -> object:
        call = getattr(self._stub, method)
        return lambda request: call(request, metadata=HEADERS)

    async def container(self, id_: str, *args: str, **changes: object) -> None:
        container = Container(
            id=id_, runtime=Runtime("io.containerd.runc.v2"), spec=Any("spec", spec(*(args or ("true",))))
        )
        await self.daemon.store.write(containers.create, NAMESPACE, replace(container, **changes))

    def request(self, id_: str, **more: object) -> pb.CreateTaskRequest:
        rootfs = Mount(type="bind", source=str(self.daemon.top / "rootfs"), options=["rbind"])
        return pb.CreateTaskRequest(container_id=id_, rootfs=[rootfs], **more)

    async def running(self, id_: str, *args: str) -> int:
        await self.container(id_, *args)
        await self.Create(self.request(id_))
        return (await self.Start(pb.StartRequest(container_id=id_))).pid


def content_of(daemon: Daemon) -> ContentStore:
    return ContentStore(daemon.store.database, LocalStore(daemon.top / "content"))


@pytest_asyncio.fixture
async def api(top: Path, serve: Serve) -> AsyncIterator[Api]:
    daemon = Daemon(top, {})
    await daemon.start()
    channel = await serve(lambda server: server.add(Tasks(daemon.store, daemon.manager, content_of(daemon))))
    yield Api(rpc.TasksStub(channel), daemon)
    for task in daemon.manager.of(NAMESPACE):
        stub = rpc.TasksStub(channel)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stub.Kill(pb.KillRequest(container_id=task.id, signal=9, all=True), metadata=HEADERS)
        await stub.Wait(pb.WaitRequest(container_id=task.id), metadata=HEADERS)
        await stub.Delete(pb.DeleteTaskRequest(container_id=task.id), metadata=HEADERS)
    # A shim has closed its connection before it is gone.
    await eventually(lambda: left_behind(daemon) == [], "that nothing is left behind")
    await daemon.stop()


async def test_the_main_job(api: Api) -> None:
    await api.container("c1", "sh", "-c", "exit 7")
    created = await api.Create(api.request("c1"))
    assert created.container_id == "c1"
    process = (await api.Get(pb.GetRequest(container_id="c1"))).process
    assert (process.container_id, process.id, process.pid) == ("", "c1", created.pid)
    assert process.status == task_pb2.CREATED
    assert process.exited_at.seconds == GO_ZERO_SECONDS
    waiting = asyncio.ensure_future(api.Wait(pb.WaitRequest(container_id="c1")))
    assert (await api.Start(pb.StartRequest(container_id="c1"))).pid == created.pid
    waited = await waiting
    assert waited.exit_status == 7
    assert await api.Wait(pb.WaitRequest(container_id="c1")) == waited
    process = (await api.Get(pb.GetRequest(container_id="c1"))).process
    assert (process.status, process.exit_status, process.exited_at) == (task_pb2.STOPPED, 7, waited.exited_at)
    deleted = await api.Delete(pb.DeleteTaskRequest(container_id="c1"))
    assert (deleted.id, deleted.exit_status, deleted.exited_at) == ("", 7, waited.exited_at)
    await refused(api.Delete(pb.DeleteTaskRequest(container_id="c1")), 5, "task c1 not found")


async def test_what_is_not_there(api: Api) -> None:
    await refused(api.Get(pb.GetRequest(container_id="x")), 5, "container")
    await api.container("c1")
    await refused(api.Get(pb.GetRequest(container_id="c1")), 5, "task c1 not found")
    await refused(api.Create(api.request("x")), 5, "container")


async def test_create_refusals(api: Api) -> None:
    await api.container("c1")
    odd = AnyMessage(type_url="x.y.Z", value=b"")
    await refused(api.Create(api.request("c1", options=odd)), 2, "type with url x.y.Z: not found")
    await refused(api.Create(api.request("c1", checkpoint=Descriptor())), 2, "unsupported checkpoint type")
    await refused(api.Create(api.request("c1", runtime_path="/no/such")), 2, "failed to resolve runtime path")
    await api.Create(api.request("c1"))
    await refused(api.Create(api.request("c1")), 6, "task c1: already exists")


async def test_a_missing_runtime_binary_is_named(api: Api) -> None:
    options = Options(binary_name="no-such-runc")
    packed = Any(Options.DESCRIPTOR.full_name, options.SerializeToString())
    await api.container("c1", runtime=Runtime("io.containerd.runc.v2", packed))
    await refused(api.Create(api.request("c1")), 2, "no-such-runc")


async def test_a_shim_that_somebody_else_has_started_is_refused(api: Api) -> None:
    """Tasks 3.7, 4.1: in the request or in its options; not in a shim of our own instead."""
    await api.container("c1", "sleep", "1000")
    place = "ttrpc+unix:///run/sandbox.sock"
    options = AnyMessage(type_url=Options.DESCRIPTOR.full_name)
    options.value = Options(task_api_address=place, task_api_version=3).SerializeToString()
    for request in (api.request("c1", task_api_address=place), api.request("c1", options=options)):
        await refused(api.Create(request), 12, f"a task in the shim at {place}")
    assert not (await api.List(pb.ListTasksRequest())).tasks
    await api.running("c2", "sleep", "1000")


async def test_a_running_task_is_not_deleted(api: Api) -> None:
    await api.running("c1", "sleep", "1000")
    text = "failed to delete task: cannot delete a running process"
    await refused(api.Delete(pb.DeleteTaskRequest(container_id="c1")), 2, text)
    tasks = (await api.List(pb.ListTasksRequest())).tasks
    assert [(task.id, task.status) for task in tasks] == [("c1", task_pb2.RUNNING)]


async def test_exec(api: Api) -> None:
    await api.running("c1", "sleep", "1000")
    exec_spec = AnyMessage(
        type_url=EXEC.type_url,
        value=b'{"args": ["sh", "-c", "exit 5"], "cwd": "/", "env": ["PATH=/bin"], "user": {}}',
    )
    request = pb.ExecProcessRequest(container_id="c1", exec_id="e1", spec=exec_spec)
    await api.Exec(request)
    await refused(api.Exec(request), 6, "already exists")
    waiting = asyncio.ensure_future(api.Wait(pb.WaitRequest(container_id="c1", exec_id="e1")))
    assert (await api.Start(pb.StartRequest(container_id="c1", exec_id="e1"))).pid > 0
    assert (await waiting).exit_status == 5
    deleted = await api.DeleteProcess(pb.DeleteProcessRequest(container_id="c1", exec_id="e1"))
    assert (deleted.id, deleted.exit_status) == ("e1", 5)
    await refused(api.Get(pb.GetRequest(container_id="c1", exec_id="e1")), 5, "e1")


async def test_exec_is_checked_before_a_shim_sees_it(api: Api) -> None:
    await api.running("c1", "sleep", "1000")
    for exec_id, text in (
        ("", "exec id cannot be empty"),
        ("a/b", "invalid exec id a/b"),
        ("e1", "needs a spec"),
    ):
        await refused(api.Exec(pb.ExecProcessRequest(container_id="c1", exec_id=exec_id)), 3, text)


async def test_a_failed_exec_can_be_deleted_but_not_started_again(api: Api) -> None:
    await api.running("c1", "sleep", "1000")
    bad = AnyMessage(type_url=EXEC.type_url, value=b'{"args": ["/none"], "cwd": "/", "user": {}}')
    await api.Exec(pb.ExecProcessRequest(container_id="c1", exec_id="e1", spec=bad))
    start = pb.StartRequest(container_id="c1", exec_id="e1")
    await refused(api.Start(start), 2, "/none")
    await refused(api.Start(start), 9, "failed to start before")
    await api.DeleteProcess(pb.DeleteProcessRequest(container_id="c1", exec_id="e1"))


async def test_kill_pause_resume_and_pids(api: Api) -> None:
    pid = await api.running("c1", "sleep", "1000")
    listed = (await api.ListPids(pb.ListPidsRequest(container_id="c1"))).processes
    assert [process.pid for process in listed] == [pid]
    await api.Pause(pb.PauseTaskRequest(container_id="c1"))
    assert (await api.Get(pb.GetRequest(container_id="c1"))).process.status == task_pb2.PAUSED
    await api.Resume(pb.ResumeTaskRequest(container_id="c1"))
    await api.ResizePty(pb.ResizePtyRequest(container_id="c1", width=80, height=24))
    await api.CloseIO(pb.CloseIORequest(container_id="c1", stdin=True))
    await api.Kill(pb.KillRequest(container_id="c1", signal=15))
    await api.Kill(pb.KillRequest(container_id="c1", signal=9))
    assert (await api.Wait(pb.WaitRequest(container_id="c1"))).exit_status == 137
    await refused(api.Kill(pb.KillRequest(container_id="c1", signal=9)), 5, "process already finished")


async def test_an_update_needs_resources(api: Api) -> None:
    await api.running("c1", "sleep", "1000")
    await refused(api.Update(pb.UpdateTaskRequest(container_id="c1")), 3, "needs resources")


class Tap:
    """A socket between daemon and shim, which keeps what the daemon says."""

    def __init__(self, path: Path, behind: str) -> None:
        self.path = path
        self._behind = behind
        self._decoder = Decoder()
        self._frames: list[Frame] = []

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        from_shim, to_shim = await asyncio.open_unix_connection(self._behind)
        answering = asyncio.ensure_future(self._copy(from_shim, writer, lambda _: None))
        await self._copy(reader, to_shim, self._note)
        await answering

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], None]
    ) -> None:
        while data := await reader.read(1 << 16):
            note(data)
            writer.write(data)
        writer.close()

    def _note(self, data: bytes) -> None:
        self._frames += [one for one in self._decoder.feed(data) if isinstance(one, Frame)]

    def requests(self, method: str) -> list[bytes]:
        """The messages of the calls of a method."""
        calls = [REQUEST_ENVELOPE.FromString(frame.payload) for frame in self._frames]
        return [call.data("payload") for call in calls if call.text("method") == method]


async def test_annotations_of_an_update_reach_the_shim(api: Api) -> None:
    await api.running("c1", "sleep", "1000")
    task = api.daemon.manager.get(NAMESPACE, "c1")
    assert task.address is not None
    assert task.shim is not None
    tap = Tap(api.daemon.top / "tap", task.address.address.removeprefix("unix://"))
    server = await asyncio.start_unix_server(tap.relay, tap.path)
    # The daemon takes up a connection that broke, to wherever the shim is.
    behind, task.address = task.address, replace(task.address, address=f"unix://{tap.path}")
    task.shim.close()
    await eventually(lambda: len(tap.requests("Connect")) == 1, "the new connection")
    resources = AnyMessage(type_url="resources", value=b'{"pids": {"limit": 50}}')
    annotations = {"io.example/reason": "night", "empty": ""}
    await api.Update(pb.UpdateTaskRequest(container_id="c1", resources=resources, annotations=annotations))
    (sent,) = map(shim.UpdateTaskRequest.FromString, tap.requests("Update"))
    assert sent == shim.UpdateTaskRequest(id="c1", resources=resources, annotations=annotations)
    task.address = behind
    server.close()


async def test_metrics_filter(api: Api) -> None:
    """Tasks 4.3, 8.30: one entry with its id, none for a task that has ended."""
    await api.running("c1", "sleep", "1000")
    assert len((await api.Metrics(pb.MetricsRequest(filters=["id==other"]))).metrics) == 0
    for filters in ([], ["id==c1"], [f"namespace=={NAMESPACE}", "id==other"]):
        (metric,) = (await api.Metrics(pb.MetricsRequest(filters=filters))).metrics
        assert metric.id == "c1"
        assert metric.data.type_url.startswith("io.containerd.cgroups.v")
        assert metric.timestamp.seconds > 0
    await api.Kill(pb.KillRequest(container_id="c1", signal=9))
    await api.Wait(pb.WaitRequest(container_id="c1"))
    assert len((await api.Metrics(pb.MetricsRequest())).metrics) == 0
    await refused(api.Metrics(pb.MetricsRequest(filters=["id="])), 3, "")


async def test_a_cancelled_wait_has_no_effect(api: Api) -> None:
    await api.running("c1", "sleep", "1000")
    waiting = api.Wait(pb.WaitRequest(container_id="c1"))
    await asyncio.wait([asyncio.ensure_future(waiting.code())], timeout=0.1)
    waiting.cancel()
    assert (await api.Get(pb.GetRequest(container_id="c1"))).process.status == task_pb2.RUNNING
