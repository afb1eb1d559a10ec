"""Tasks and processes: what runs in a container (containerd: client/task.go, client/process.go)."""

from __future__ import annotations

import asyncio
import enum
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.types.task import task_pb2
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.errors import Unavailable
from supervisor.model.any import PROCESS_TYPE_URL, Any
from supervisor.model.instant import Nanoseconds
from supervisor.model.mount import Mount

_SERVICE = "containerd.services.tasks.v1.Tasks"
_RECONNECT_SECONDS = 0.1


class Status(enum.Enum):
    """Where a process is in its life."""

    UNKNOWN = 0
    CREATED = 1
    RUNNING = 2
    STOPPED = 3
    PAUSED = 4
    PAUSING = 5


@dataclass(frozen=True, slots=True)
class Streams:
    """Where a process reads and writes: fifos, `file://` or `binary://` URIs, or empty for nothing."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its code, or 128 and the signal's number."""

    code: int
    at: Nanoseconds | None


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What is known of a process; `exec_id` is empty for the first one of a container."""

    container_id: str
    exec_id: str
    pid: int
    status: Status
    streams: Streams
    exit: Exit | None


class Process:
    """A process that was added to a container."""

    def __init__(self, channel: Channel, container_id: str, exec_id: str) -> None:
        self._channel = channel
        self.container_id = container_id
        self.exec_id = exec_id

    async def start(self) -> int:
        """Start it; returns its number on the host."""
        request = pb.StartRequest(container_id=self.container_id, exec_id=self.exec_id)
        return (await self._channel.call(f"{_SERVICE}/Start", request, pb.StartResponse)).pid

    async def state(self) -> ProcessState:
        """What is known of it; raises NotFound when it was never created or has been deleted."""
        request = pb.GetRequest(container_id=self.container_id, exec_id=self.exec_id)
        answer = await self._channel.call(f"{_SERVICE}/Get", request, pb.GetResponse)
        return _state(answer.process, self.container_id, self.exec_id)

    async def wait(self, *, patience: float = 0.0) -> Exit:
        """How it ended, as soon as it has; at once if it has already.

        A daemon that goes away meanwhile is given `patience` seconds to come back, each time.
        """
        request = pb.WaitRequest(container_id=self.container_id, exec_id=self.exec_id)
        gone_since: float | None = None
        while True:
            asked = time.monotonic()
            try:
                answer = await self._channel.call(f"{_SERVICE}/Wait", request, pb.WaitResponse)
            except Unavailable:
                # A call that hung for a while had reached a daemon: the patience starts anew.
                if gone_since is None or time.monotonic() - asked > 1:
                    gone_since = time.monotonic()
                if time.monotonic() - gone_since >= patience:
                    raise
                await asyncio.sleep(_RECONNECT_SECONDS)
            else:
                return Exit(answer.exit_status, convert.instant(answer.exited_at))

    async def kill(self, signal: int, *, every: bool = False) -> None:
        """Send a signal, to `every` process of the container if so wanted; NotFound when it has ended."""
        request = pb.KillRequest(
            container_id=self.container_id, exec_id=self.exec_id, signal=signal, all=every
        )
        await self._channel.call(f"{_SERVICE}/Kill", request, Empty)

    async def resize(self, columns: int, rows: int) -> None:
        """Tell its terminal a new size."""
        request = pb.ResizePtyRequest(
            container_id=self.container_id, exec_id=self.exec_id, width=columns, height=rows
        )
        await self._channel.call(f"{_SERVICE}/ResizePty", request, Empty)

    async def close_stdin(self) -> None:
        """Let it see the end of its input once every writer has closed the fifo."""
        request = pb.CloseIORequest(container_id=self.container_id, exec_id=self.exec_id, stdin=True)
        await self._channel.call(f"{_SERVICE}/CloseIO", request, Empty)

    async def delete(self) -> Exit:
        """Forget it; raises FailedPrecondition while it runs."""
        request = pb.DeleteProcessRequest(container_id=self.container_id, exec_id=self.exec_id)
        answer = await self._channel.call(f"{_SERVICE}/DeleteProcess", request, pb.DeleteResponse)
        return Exit(answer.exit_status, convert.instant(answer.exited_at))


class Task(Process):
    """The first process of a container, and with it the running container."""

    def __init__(self, channel: Channel, container_id: str, pid: int = 0) -> None:
        super().__init__(channel, container_id, "")
        self.pid = pid

    async def delete(self) -> Exit:
        """Forget the ended task and release what it held; raises FailedPrecondition while it runs."""
        request = pb.DeleteTaskRequest(container_id=self.container_id)
        answer = await self._channel.call(f"{_SERVICE}/Delete", request, pb.DeleteResponse)
        return Exit(answer.exit_status, convert.instant(answer.exited_at))

    async def exec(self, exec_id: str, process: Mapping[str, object], streams: Streams) -> Process:
        """Add a process, given as the `process` part of an OCI runtime spec; it is then to be started."""
        request = pb.ExecProcessRequest(
            container_id=self.container_id,
            exec_id=exec_id,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            terminal=streams.terminal,
            spec=convert.payload_message(Any(PROCESS_TYPE_URL, json.dumps(process).encode())),
        )
        await self._channel.call(f"{_SERVICE}/Exec", request, Empty)
        return Process(self._channel, self.container_id, exec_id)

    async def pause(self) -> None:
        """Freeze every process of the container."""
        await self._channel.call(
            f"{_SERVICE}/Pause", pb.PauseTaskRequest(container_id=self.container_id), Empty
        )

    async def resume(self) -> None:
        """Let a frozen container run on."""
        await self._channel.call(
            f"{_SERVICE}/Resume", pb.ResumeTaskRequest(container_id=self.container_id), Empty
        )

    async def pids(self) -> list[int]:
        """The numbers on the host of all processes in the container."""
        request = pb.ListPidsRequest(container_id=self.container_id)
        answer = await self._channel.call(f"{_SERVICE}/ListPids", request, pb.ListPidsResponse)
        return [process.pid for process in answer.processes]


class Tasks:
    """The tasks of a namespace."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def of(self, container_id: str) -> Task:
        """The task of a container, whether there is one or not."""
        return Task(self._channel, container_id)

    async def create(
        self,
        container_id: str,
        *,
        rootfs: Sequence[Mount] = (),
        streams: Streams | None = None,
        options: Any | None = None,
        runtime_path: str = "",
    ) -> Task:
        """Make a task, ready to be started; who reads its fifos must have opened them before."""
        io = streams or Streams()
        request = pb.CreateTaskRequest(
            container_id=container_id,
            rootfs=convert.mount_messages(rootfs),
            stdin=io.stdin,
            stdout=io.stdout,
            stderr=io.stderr,
            terminal=io.terminal,
            options=convert.payload_message(options),
            runtime_path=runtime_path,
        )
        answer = await self._channel.call(f"{_SERVICE}/Create", request, pb.CreateTaskResponse)
        return Task(self._channel, container_id, answer.pid)

    async def list(self) -> list[ProcessState]:
        """The tasks of the namespace."""
        answer = await self._channel.call(f"{_SERVICE}/List", pb.ListTasksRequest(), pb.ListTasksResponse)
        # List names the container in `id` (and some servers in both fields).
        return [_state(message, message.container_id or message.id, "") for message in answer.tasks]


def _state(message: task_pb2.Process, container_id: str, exec_id: str) -> ProcessState:
    status = Status(message.status)
    ended = Exit(message.exit_status, convert.instant(message.exited_at))
    streams = Streams(message.stdin, message.stdout, message.stderr, message.terminal)
    return ProcessState(
        container_id, exec_id, message.pid, status, streams, ended if status is Status.STOPPED else None
    )
