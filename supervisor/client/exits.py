"""Exit records: how processes ended, also those of tasks that were deleted (containerd keeps none)."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.api.services.supervisor import exits_pb2 as pb
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.model.instant import Nanoseconds

_SERVICE = "supervisor.services.exits.v1.Exits"


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How one process ended, or why it never ran; `exec_id` is empty for a container's first process."""

    container_id: str
    exec_id: str
    pid: int
    code: int
    signal: int
    oom_killed: bool
    error: str
    started_at: Nanoseconds | None
    exited_at: Nanoseconds | None
    deleted: bool

    @property
    def reason(self) -> str:
        """Why it ended, in words."""
        if self.error:
            return self.error
        if not self.signal:
            return f"exited with code {self.code}"
        killed = f"killed by signal {self.signal} ({_name(self.signal)})"
        return f"{killed}: out of memory" if self.oom_killed else killed


class Exits:
    """The exit records of a namespace."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def get(self, container_id: str, exec_id: str = "") -> ExitRecord:
        """The newest record of a process; raises NotFound when none is kept (any more)."""
        request = pb.GetExitRequest(container_id=container_id, exec_id=exec_id)
        answer = await self._channel.call(f"{_SERVICE}/Get", request, pb.GetExitResponse)
        return _record(answer.record)

    async def list(
        self, container_id: str = "", *, first_processes: bool = False, limit: int = 0
    ) -> Sequence[ExitRecord]:
        """Records of a container or of all, newest first; the daemon gives 1000 at most."""
        request = pb.ListExitsRequest(container_id=container_id, first_processes=first_processes, limit=limit)
        answer = await self._channel.call(f"{_SERVICE}/List", request, pb.ListExitsResponse)
        return [_record(record) for record in answer.records]


def _record(message: pb.ExitRecord) -> ExitRecord:
    return ExitRecord(
        container_id=message.container_id,
        exec_id=message.exec_id,
        pid=message.pid,
        code=message.exit_status,
        signal=message.signal,
        oom_killed=message.oom_killed,
        error=message.error,
        started_at=convert.instant(message.started_at),
        exited_at=convert.instant(message.exited_at),
        deleted=message.deleted,
    )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else "unnamed"
