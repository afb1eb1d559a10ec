"""The Task service, v2 and v3 alike (containerd: task/service.go). Protobuf ends here.

The two versions differ in their package only, so one set of messages serves both. Methods that may
wait for a runtime run in threads; those marked inline never wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from supervisor.api.runtime.task.v2 import shim_pb2 as task
from supervisor.api.types.runc.options import oci_pb2
from supervisor.api.types.task.task_pb2 import ProcessInfo
from supervisor.errors import InvalidArgument, NotFound, SupervisorError
from supervisor.shimv2.runc import limits
from supervisor.shimv2.runc.container import Container, Surroundings
from supervisor.shimv2.runc.messages import STATUS, mounts_of, options_of, pack, stdio_of, timestamp
from supervisor.shimv2.runc.process import Process
from supervisor.shimv2.runc.reaper import Exit
from supervisor.ttrpc.calls import Call, Method, Services

M = TypeVar("M", bound=Message)

SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")


class TaskService:
    """Looks up, asks the container, converts.

    `shut_down` is called when a caller wants the shim to end, `connected` when a daemon has come.
    """

    def __init__(
        self, around: Surroundings, shut_down: Callable[[], None], connected: Callable[[], None]
    ) -> None:
        self._around = around
        self._shut_down = shut_down
        self._connected = connected
        self._containers: dict[str, Container] = {}
        self._reserving = threading.Lock()
        self._in_creation: set[str] = set()

    def services(self) -> Services:
        """What a ttrpc server serves."""
        methods = {
            "State": Method(task.StateRequest, self.state, inline=True),
            "Create": Method(task.CreateTaskRequest, _timed(self.create)),
            "Start": Method(task.StartRequest, _timed(self.start)),
            "Delete": Method(task.DeleteRequest, _timed(self.delete)),
            "Pids": Method(task.PidsRequest, _timed(self.pids)),
            "Pause": Method(task.PauseRequest, _timed(self.pause)),
            "Resume": Method(task.ResumeRequest, _timed(self.resume)),
            "Checkpoint": Method(task.CheckpointTaskRequest, _timed(self.checkpoint)),
            "Kill": Method(task.KillRequest, _timed(self.kill)),
            "Exec": Method(task.ExecProcessRequest, self.exec, inline=True),
            "ResizePty": Method(task.ResizePtyRequest, self.resize_pty, inline=True),
            "CloseIO": Method(task.CloseIORequest, self.close_io, inline=True),
            "Update": Method(task.UpdateTaskRequest, _timed(self.update)),
            "Wait": Method(task.WaitRequest, self.wait, inline=True),
            "Stats": Method(task.StatsRequest, self.stats),
            "Connect": Method(task.ConnectRequest, self.connect, inline=True),
            "Shutdown": Method(task.ShutdownRequest, self.shutdown, inline=True),
        }
        return dict.fromkeys(SERVICES, methods)

    def create(self, request: task.CreateTaskRequest, _call: Call) -> task.CreateTaskResponse:
        """Create a container from a bundle."""
        if request.checkpoint:
            from supervisor.shimv2.runc.checkpoint import check_criu

            check_criu("restore", request.id)
        container = Container(
            request.id,
            request.bundle,
            stdio_of(request),
            options_of(request.options.type_url, request.options.value),
            self._around,
        )

        def register() -> None:
            self._containers[request.id] = container

        with self._reserved(request.id):
            container.create(mounts_of(request.rootfs), register, request.checkpoint)
        return task.CreateTaskResponse(pid=container.init.pid)

    def start(self, request: task.StartRequest, _call: Call) -> task.StartResponse:
        """Start init or an exec; the pid is right even if the process has ended already."""
        container, process = self._find(request.id, request.exec_id)
        if process is container.init:
            container.start()
        else:
            container.start_exec(process)
        return task.StartResponse(pid=process.pid)

    def delete(self, request: task.DeleteRequest, _call: Call) -> task.DeleteResponse:
        """Remove a container or an exec."""
        container, process = self._find(request.id, request.exec_id)
        if process is container.init:
            exit_ = container.delete(lambda: self._forget(container))
        else:
            container.delete_exec(process)
            exit_ = process.exit
        return task.DeleteResponse(pid=process.pid, exit_status=exit_.status, exited_at=timestamp(exit_.at))

    def state(self, request: task.StateRequest, _call: Call) -> task.StateResponse:
        """Where a process stands."""
        container, process = self._find(request.id, request.exec_id)
        status = STATUS[container.members.shown_state(process)]
        exit_, stdio = process.exit, process.stdio
        return task.StateResponse(
            id=request.exec_id or request.id,
            exec_id=request.exec_id,
            bundle=container.bundle,
            pid=process.pid,
            status=status,
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            terminal=stdio.terminal,
            exit_status=exit_.status,
            exited_at=timestamp(exit_.at),
        )

    def wait(self, request: task.WaitRequest, _call: Call) -> Future[task.WaitResponse]:
        """A future of the exit: any number of callers wait without a thread."""
        _, process = self._find(request.id, request.exec_id)
        answer: Future[task.WaitResponse] = Future()

        def answer_with(exited: Future[Exit]) -> None:
            exit_ = exited.result()
            answer.set_result(task.WaitResponse(exit_status=exit_.status, exited_at=timestamp(exit_.at)))

        process.exited.add_done_callback(answer_with)
        return answer

    def exec(self, request: task.ExecProcessRequest, _call: Call) -> Empty:
        """Add an exec; it is not started."""
        container = self._container(request.id)
        if not request.exec_id:
            raise InvalidArgument("exec id cannot be empty")
        if not request.spec.value:
            raise InvalidArgument(f"exec {request.exec_id} needs a spec, the process as JSON")
        container.add_exec(request.exec_id, stdio_of(request), request.spec.value)
        return Empty()

    def kill(self, request: task.KillRequest, _call: Call) -> Empty:
        """Signal a process, or all of a container."""
        container, process = self._find(request.id, request.exec_id)
        container.kill(process, request.signal, everything=request.all)
        return Empty()

    def pids(self, request: task.PidsRequest, _call: Call) -> task.PidsResponse:
        """Every process of a container."""
        found = self._container(request.id).pids()
        return task.PidsResponse(processes=[_process_info(pid, exec_id) for pid, exec_id in found.items()])

    def pause(self, request: task.PauseRequest, _call: Call) -> Empty:
        """Freeze a container."""
        self._container(request.id).pause()
        return Empty()

    def resume(self, request: task.ResumeRequest, _call: Call) -> Empty:
        """Thaw a container."""
        self._container(request.id).resume()
        return Empty()

    def resize_pty(self, request: task.ResizePtyRequest, _call: Call) -> Empty:
        """Set the size of a terminal."""
        container, process = self._find(request.id, request.exec_id)
        container.resize(process, request.width, request.height)
        return Empty()

    def close_io(self, request: task.CloseIORequest, _call: Call) -> Empty:
        """Let go of a process's input."""
        _, process = self._find(request.id, request.exec_id)
        process.io.close_stdin()
        return Empty()

    def update(self, request: task.UpdateTaskRequest, _call: Call) -> Empty:
        """Change the resource limits of a container."""
        if not request.resources.value:
            raise InvalidArgument(
                f"update of {request.id} needs resources: the spec's LinuxResources as JSON"
            )
        self._container(request.id).update(request.resources.value)
        return Empty()

    def checkpoint(self, request: task.CheckpointTaskRequest, _call: Call) -> Empty:
        """Dump a container's processes into a folder."""
        from supervisor.shimv2.runc.checkpoint import flags_of

        flags = flags_of(request.options.type_url, request.options.value)
        self._container(request.id).checkpoint(request.path, flags)
        return Empty()

    def stats(self, request: task.StatsRequest, _call: Call) -> task.StatsResponse:
        """What a container uses."""
        from supervisor.shimv2.runc.metrics import metrics_of

        container = self._container(request.id)
        return task.StatsResponse(stats=pack(metrics_of(container.cgroup(), container.init.pid)))

    def connect(self, request: task.ConnectRequest, _call: Call) -> task.ConnectResponse:
        """Who serves, and the pid of a container, 0 for an unknown one."""
        self._connected()
        container = self._containers.get(request.id)
        pid = container.init.pid if container else 0
        return task.ConnectResponse(shim_pid=os.getpid(), task_pid=pid)

    def shutdown(self, _request: task.ShutdownRequest, _call: Call) -> Empty:
        """End the shim, unless it has a container left."""
        with self._reserving:
            if not self._containers and not self._in_creation:
                self._shut_down()
        return Empty()

    @contextmanager
    def _reserved(self, container_id: str) -> Iterator[None]:
        """Only one Create of an id at a time: undoing a second would unmount the root of the first."""
        with self._reserving:
            if container_id in self._containers or container_id in self._in_creation:
                raise SupervisorError("OCI runtime create failed: container with given ID already exists")
            self._in_creation.add(container_id)
        try:
            yield
        finally:
            self._in_creation.discard(container_id)

    def _forget(self, container: Container) -> None:
        self._containers.pop(container.id, None)

    def _container(self, container_id: str) -> Container:
        try:
            return self._containers[container_id]
        except KeyError:
            raise NotFound("container not created") from None

    def _find(self, container_id: str, exec_id: str) -> tuple[Container, Process]:
        container = self._container(container_id)
        return container, container.members.find(exec_id)


def _timed(handler: Callable[[Any, Call], M]) -> Callable[[Any, Call], M]:
    """The handler, with its caller's deadline as the limit of the runtime's commands."""

    def handle(request: Message, call: Call) -> M:
        with limits.within(limits.ahead_of(call.remaining())):
            return handler(request, call)

    return handle


def _process_info(pid: int, exec_id: str) -> ProcessInfo:
    info = ProcessInfo(pid=pid)
    if exec_id:
        info.info.CopyFrom(pack(oci_pb2.ProcessDetails(exec_id=exec_id)))
    return info
