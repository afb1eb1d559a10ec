"""The Task service, v2 and v3 alike (containerd: task/service.go). Protobuf ends here.

The two versions differ in their package only, so one set of messages serves both. What waits for a
runtime is a coroutine, whose caller waits without a thread; so is Wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from supervisor.errors import Aborted, DeadlineExceeded, InvalidArgument, NotFound, SupervisorError
from supervisor.shimv2.runc import layouts, limits
from supervisor.shimv2.runc.container import Container, Surroundings
from supervisor.shimv2.runc.layouts import EMPTY, PROCESS, timestamp
from supervisor.shimv2.runc.messages import stdio_of, value_of
from supervisor.shimv2.runc.process import STATUS, Process
from supervisor.ttrpc.calls import Call, Method, Services
from supervisor.ttrpc.protobuf import Fields, any_of

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
        self._in_creation: set[str] = set()
        self._ending = False

    def services(self) -> Services:
        """What a ttrpc server serves."""
        methods = {
            "State": Method(PROCESS, self.state),
            "Create": Method(layouts.CREATE_REQUEST, self.create),
            "Start": Method(PROCESS, self.start),
            "Delete": Method(PROCESS, self.delete),
            "Pids": Method(PROCESS, self.pids),
            "Pause": Method(PROCESS, self.pause),
            "Resume": Method(PROCESS, self.resume),
            "Checkpoint": Method(layouts.CHECKPOINT_REQUEST, self.checkpoint),
            "Kill": Method(layouts.KILL_REQUEST, self.kill),
            "Exec": Method(layouts.EXEC_REQUEST, self.exec),
            "ResizePty": Method(layouts.RESIZE_REQUEST, self.resize_pty),
            "CloseIO": Method(PROCESS, self.close_io),
            "Update": Method(layouts.UPDATE_REQUEST, self.update),
            "Wait": Method(PROCESS, self.wait),
            "Stats": Method(PROCESS, self.stats),
            "Connect": Method(PROCESS, self.connect),
            "Shutdown": Method(PROCESS, self.shutdown),
        }
        return dict.fromkeys(SERVICES, methods)

    async def create(self, request: Fields, call: Call) -> bytes:
        """Create a container from a bundle; raises Aborted when another shim is to be started for it."""
        if self._ending:
            raise Aborted("this shim ends, its last container was deleted; start another")
        id_, checkpoint = request.text("id"), request.text("checkpoint")
        if checkpoint:
            from supervisor.shimv2.runc.checkpoint import check_criu

            check_criu("restore", id_)
        options = request.data("options")
        container = Container(id_, request.text("bundle"), stdio_of(request), options, self._around)

        self._reserve(id_)
        try:
            await container.create(request.each("rootfs"), self._containers, checkpoint, _limit(call))
        finally:
            self._in_creation.discard(id_)
        return layouts.PID_RESPONSE.encode(pid=container.init.pid)

    async def start(self, request: Fields, call: Call) -> bytes:
        """Start init or an exec; the pid is right even if the process has ended already."""
        container, process = self._find(request)
        if process is container.init:
            await container.start(_limit(call))
        else:
            await container.start_exec(process, _limit(call))
        return layouts.PID_RESPONSE.encode(pid=process.pid)

    async def delete(self, request: Fields, call: Call) -> bytes:
        """Remove a container or an exec."""
        container, process = self._find(request)
        if process is container.init:
            exit_ = await container.delete(lambda: self._forget(container), _limit(call))
        else:
            await container.delete_exec(process)
            exit_ = process.exit
        return layouts.DELETE_RESPONSE.encode(
            pid=process.pid, exit_status=exit_.status, exited_at=timestamp(exit_.at)
        )

    def state(self, request: Fields, _call: Call) -> bytes:
        """Where a process stands."""
        container, process = self._find(request)
        exit_, stdio = process.exit, process.stdio
        return layouts.STATE_RESPONSE.encode(
            id=process.exec_id or container.id,
            exec_id=process.exec_id,
            bundle=container.bundle,
            pid=process.pid,
            status=STATUS[container.members.shown_state(process)],
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            terminal=stdio.terminal,
            exit_status=exit_.status,
            exited_at=timestamp(exit_.at),
        )

    async def wait(self, request: Fields, call: Call) -> bytes:
        """How a process ended, once it has; raises DeadlineExceeded when the caller's time is up before."""
        _, process = self._find(request)
        left = call.remaining()
        if left is not None and not await self._around.loop.settled(process.exited, left):
            raise DeadlineExceeded(f"wait for the end of {process.exec_id or request.text('id')}")
        exit_ = await process.exited
        return layouts.WAIT_RESPONSE.encode(exit_status=exit_.status, exited_at=timestamp(exit_.at))

    def exec(self, request: Fields, _call: Call) -> bytes:
        """Add an exec; it is not started."""
        container, exec_id = self._container(request), request.text("exec_id")
        if not exec_id:
            raise InvalidArgument("exec id cannot be empty")
        spec = value_of(request, "spec")
        if not spec:
            raise InvalidArgument(f"exec {exec_id} needs a spec, the process as JSON")
        container.add_exec(exec_id, stdio_of(request), spec)
        return EMPTY

    async def kill(self, request: Fields, call: Call) -> bytes:
        """Signal a process, or all of a container."""
        container, process = self._find(request)
        number, everything = request.number("signal"), request.flag("all")
        await container.kill(process, number, _limit(call), everything=everything)
        return EMPTY

    async def pids(self, request: Fields, call: Call) -> bytes:
        """Every process of a container."""
        found = await self._container(request).pids(_limit(call))
        processes = [_process_info(pid, exec_id) for pid, exec_id in found.items()]
        return layouts.PIDS_RESPONSE.encode(processes=processes)

    async def pause(self, request: Fields, call: Call) -> bytes:
        """Freeze a container."""
        await self._container(request).pause(_limit(call))
        return EMPTY

    async def resume(self, request: Fields, call: Call) -> bytes:
        """Thaw a container."""
        await self._container(request).resume(_limit(call))
        return EMPTY

    def resize_pty(self, request: Fields, _call: Call) -> bytes:
        """Set the size of a terminal."""
        container, process = self._find(request)
        container.resize(process, request.number("width"), request.number("height"))
        return EMPTY

    def close_io(self, request: Fields, _call: Call) -> bytes:
        """Let go of a process's input."""
        _, process = self._find(request)
        process.io.close_stdin()
        return EMPTY

    async def update(self, request: Fields, call: Call) -> bytes:
        """Change the resource limits of a container."""
        resources = value_of(request, "resources")
        if not resources:
            id_ = request.text("id")
            raise InvalidArgument(f"update of {id_} needs resources: the spec's LinuxResources as JSON")
        await self._container(request).update(resources, _limit(call))
        return EMPTY

    async def checkpoint(self, request: Fields, call: Call) -> bytes:
        """Dump a container's processes into a folder."""
        container = self._container(request)
        await container.checkpoint(request.text("path"), request.data("options"), _limit(call))
        return EMPTY

    async def stats(self, request: Fields, _call: Call) -> bytes:
        """What a container uses."""
        return layouts.STATS_RESPONSE.encode(stats=await self._container(request).stats())

    def connect(self, request: Fields, _call: Call) -> bytes:
        """Who serves, and the pid of a container, 0 for an unknown one."""
        self._connected()
        container = self._containers.get(request.text("id"))
        pid = container.init.pid if container else 0
        return layouts.CONNECT_RESPONSE.encode(shim_pid=os.getpid(), task_pid=pid)

    def shutdown(self, _request: Fields, _call: Call) -> bytes:
        """End the shim, unless it has a container left."""
        if not self._containers and not self._in_creation:
            self._ending = True
            self._shut_down()
        return EMPTY

    def _reserve(self, container_id: str) -> None:
        """Only one Create of an id at a time: undoing a second would unmount the root of the first."""
        if container_id in self._containers or container_id in self._in_creation:
            raise SupervisorError("OCI runtime create failed: container with given ID already exists")
        self._in_creation.add(container_id)

    def _forget(self, container: Container) -> None:
        self._containers.pop(container.id, None)

    def _container(self, request: Fields) -> Container:
        try:
            return self._containers[request.text("id")]
        except KeyError:
            raise NotFound("container not created") from None

    def _find(self, request: Fields) -> tuple[Container, Process]:
        container = self._container(request)
        return container, container.members.find(request.text("exec_id"))


def _limit(call: Call) -> float | None:
    """What a caller's deadline leaves to the runtime's commands."""
    return limits.ahead_of(call.remaining())


def _process_info(pid: int, exec_id: str) -> bytes:
    details = layouts.PROCESS_DETAILS.encode(exec_id=exec_id)
    info = any_of(layouts.PROCESS_DETAILS_NAME, details) if exec_id else None
    return layouts.PROCESS_INFO.encode(pid=pid, info=info)
