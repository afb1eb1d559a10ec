"""Containers by raw calls of the API, so that every answer can be seen as it is."""

from __future__ import annotations

import json
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from supervisor.api.events import task_pb2 as events
from supervisor.api.services.containers.v1 import containers_pb2 as records
from supervisor.api.services.events.v1 import events_pb2 as subscriptions
from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.types.mount_pb2 import Mount
from supervisor.api.types.runc.options.oci_pb2 import Options
from supervisor.api.types.task.task_pb2 import Process, Status
from supervisor.oci import runtime
from tests.compat.api import Api, Refusal
from tests.compat.ctr import Ctr, eventually
from tests.compat.target import Target
from tests.conformance.cells import Cell

SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
OLD_SPEC = "1.0.2"
"""crun 1.8 refuses specs of a version after its own."""
TOLD = {
    "/tasks/create": events.TaskCreate,
    "/tasks/start": events.TaskStart,
    "/tasks/exit": events.TaskExit,
    "/tasks/delete": events.TaskDelete,
    "/tasks/exec-added": events.TaskExecAdded,
    "/tasks/exec-started": events.TaskExecStarted,
    "/tasks/paused": events.TaskPaused,
    "/tasks/resumed": events.TaskResumed,
    "/tasks/oom": events.TaskOOM,
}

M = TypeVar("M", bound=Message)


def make_rootfs(folder: Path) -> Path:
    """A root file system of busybox."""
    for name in ("bin", "proc", "dev", "sys", "run", "tmp"):
        (folder / name).mkdir(parents=True)
    busybox = next(path for path in ("/bin/busybox", "/usr/bin/busybox") if Path(path).exists())
    shutil.copy(busybox, folder / "bin/busybox")
    for name in ("sh", "sleep", "true", "echo", "cat", "stty", "kill", "seq"):
        (folder / "bin" / name).symlink_to("busybox")
    return folder


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a task."""

    topic: str
    message: Any

    @property
    def of(self) -> str:
        """The process it is about, where that is said: exec id or container id."""
        return str(getattr(self.message, "exec_id", "") or getattr(self.message, "id", ""))


class Listener:
    """Hears the events of tasks, in order."""

    def __init__(self, api: Api) -> None:
        self._call = api.events.Subscribe(
            subscriptions.SubscribeRequest(filters=[f"namespace=={api.namespace}"])
        )
        self._heard: queue.Queue[Told] = queue.Queue()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        # Whether it listens by now can only be told from an event that arrives.
        probe = subscriptions.PublishRequest(topic="/probe")
        probe.event.Pack(probe)
        while not self._ready.wait(0.05):
            api.call(api.events.Publish, probe)

    def _listen(self) -> None:
        with suppress(grpc.RpcError):  # cancelled at the end
            for envelope in self._call:
                self._ready.set()
                if envelope.topic in TOLD:
                    self._heard.put(
                        Told(envelope.topic, TOLD[envelope.topic].FromString(envelope.event.value))
                    )

    def until(self, container: str, topic: str, of: str = "") -> list[Told]:
        """The events of a container up to and with the first of that topic."""
        seen = []
        while True:
            told = self._heard.get(timeout=30)
            if told.message.container_id != container:
                continue
            seen.append(told)
            if told.topic == topic and (not of or told.of == of):
                return seen

    def close(self) -> None:
        """Stop listening."""
        self._call.cancel()
        self._thread.join()


@dataclass(slots=True)
class Bench:
    """The running daemon of a cell and what is needed to make containers on it."""

    cell: Cell
    target: Target
    api: Api
    ctr: Ctr
    rootfs: Path
    folder: Path
    boxes: list[Box] = field(default_factory=list)

    def box(self, name: str, *args: str, terminal: bool = False, **more: Any) -> Box:
        """A container's record; more of its spec in `linux`, `process` and `annotations`."""
        process = runtime.process(args, terminal=terminal)
        process.update(more.get("process", {}))
        spec = runtime.default_spec(process, cgroups_path=f"/{self.api.namespace}/{name}")
        spec["ociVersion"] = OLD_SPEC
        spec["linux"].update(more.get("linux", {}))
        spec["annotations"] = more.get("annotations", {})
        container = records.Container(
            id=name,
            runtime=records.Container.Runtime(name=more.get("runtime", self.cell.runtime_name)),
            spec=AnyMessage(type_url=SPEC_TYPE, value=json.dumps(spec).encode()),
        )
        self.api.call(self.api.containers.Create, records.CreateContainerRequest(container=container))
        made = Box(self, name, terminal)
        self.boxes.append(made)
        return made

    def running(self, name: str, *args: str, **more: Any) -> Box:
        """A container whose task runs."""
        box = self.box(name, *args, **more)
        box.create()
        box.start()
        return box

    def clear(self) -> None:
        """End and delete all that tests made."""
        while self.boxes:
            self.boxes.pop().clear()

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Hear events meanwhile."""
        listener = Listener(self.api)
        try:
            yield listener
        finally:
            listener.close()


@dataclass(slots=True)
class Box:
    """One container and its task."""

    bench: Bench
    id: str
    terminal: bool = False

    def call(self, method: str, request: Message) -> Any:
        """The answer of a method of the task service."""
        return self.bench.api.call(getattr(self.bench.api.tasks, method), request)

    def refused(self, method: str, request: Message) -> Refusal:
        """The status of a call that must fail."""
        return self.bench.api.refused(getattr(self.bench.api.tasks, method), request)

    def create_request(
        self, *, chosen: Mapping[str, Any] | None = None, **stdio: str
    ) -> pb.CreateTaskRequest:
        """What asks for the task; `chosen` are options of its runtime beside the cell's."""
        root = Mount(type="bind", source=str(self.bench.rootfs), options=["rbind", "rw"])
        request = pb.CreateTaskRequest(container_id=self.id, rootfs=[root], terminal=self.terminal, **stdio)
        options = self.bench.cell.options
        options.MergeFrom(Options(**chosen or {}))
        request.options.type_url = options.DESCRIPTOR.full_name
        request.options.value = options.SerializeToString()
        return request

    def create(self, **asked: Any) -> int:
        """Make the task, as `create_request` has it; its pid."""
        return int(self.call("Create", self.create_request(**asked)).pid)

    def start(self, exec_id: str = "") -> int:
        """Start the process; its pid."""
        return int(self.call("Start", pb.StartRequest(container_id=self.id, exec_id=exec_id)).pid)

    def exec_request(self, exec_id: str, *args: str, **stdio: Any) -> pb.ExecProcessRequest:
        """What asks for a further process; more of its spec in `process`."""
        process = runtime.process(args, terminal=bool(stdio.get("terminal", False)))
        process.update(stdio.pop("process", {}))
        spec = AnyMessage(type_url=PROCESS_TYPE, value=json.dumps(process).encode())
        return pb.ExecProcessRequest(container_id=self.id, exec_id=exec_id, spec=spec, **stdio)

    def exec(self, exec_id: str, *args: str, **stdio: Any) -> None:
        """Register a further process."""
        self.call("Exec", self.exec_request(exec_id, *args, **stdio))

    def get(self, exec_id: str = "") -> Process:
        """What a process does now."""
        return self.call("Get", pb.GetRequest(container_id=self.id, exec_id=exec_id)).process

    def status(self, exec_id: str = "") -> str:
        """The name of a process's status."""
        return Status.Name(self.get(exec_id).status)

    def kill_request(self, number: int = 9, exec_id: str = "", *, every: bool = False) -> pb.KillRequest:
        """What asks for a signal."""
        return pb.KillRequest(container_id=self.id, signal=number, exec_id=exec_id, all=every)

    def kill(self, number: int = 9, exec_id: str = "", *, every: bool = False) -> None:
        """Send a signal."""
        self.call("Kill", self.kill_request(number, exec_id, every=every))

    def wait(self, exec_id: str = "") -> pb.WaitResponse:
        """How a process ended, once it has."""
        answer: pb.WaitResponse = self.call("Wait", pb.WaitRequest(container_id=self.id, exec_id=exec_id))
        return answer

    def waiting(self, exec_id: str = "") -> grpc.Future:
        """A Wait under way."""
        request = pb.WaitRequest(container_id=self.id, exec_id=exec_id)
        return self.bench.api.tasks.Wait.future(request, metadata=self.bench.api.metadata(), timeout=30)

    def delete(self) -> pb.DeleteResponse:
        """Delete the task."""
        answer: pb.DeleteResponse = self.call("Delete", pb.DeleteTaskRequest(container_id=self.id))
        return answer

    def pids(self) -> list[int]:
        """The processes of the container."""
        return [one.pid for one in self.call("ListPids", pb.ListPidsRequest(container_id=self.id)).processes]

    def end(self) -> int:
        """Kill and wait; the status."""
        self.kill()
        return int(self.wait().exit_status)

    def clear(self) -> None:
        """End and delete whatever there is of it."""
        for step in (self.kill, self.wait, self._delete_when_possible):
            with suppress(grpc.RpcError):
                if step != self.wait or self.status() not in ("CREATED", "STOPPED"):
                    step()
        api = self.bench.api
        with suppress(grpc.RpcError):
            api.call(api.containers.Delete, records.DeleteContainerRequest(id=self.id))

    def _delete_when_possible(self) -> None:
        # The signal is on its way when Kill answers; until it has arrived a Delete is refused.
        eventually(self._try_delete, what=f"delete of {self.id}")

    def _try_delete(self) -> bool:
        try:
            self.delete()
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.NOT_FOUND
        return True


class Output:
    """The reading end of a fifo for a process's output, open from before the process is made."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.seen = b""

    def _more(self) -> bool | None:
        """Whether something came; None at the end."""
        try:
            piece = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return False
        self.seen += piece
        return bool(piece) or None

    def expect(self, text: bytes) -> None:
        """Read until `text` has come."""
        eventually(
            lambda: (self._more() is not False and text in self.seen) or text in self.seen, what=repr(text)
        )

    def to_end(self) -> bytes:
        """All of it, once the last writer has closed; only after something has opened it for writing."""
        eventually(lambda: self._more() is None, what="the end of the output")
        return self.seen

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def holds(look: Callable[[], bool], what: str) -> None:
    """Wait until it is so."""
    eventually(look, what=what)
