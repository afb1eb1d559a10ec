"""Tasks as the running daemon holds them: a connection to the shim, and how far each has come.

(containerd: core/runtime/v2/shim_manager.go.) The store has the durable half, `supervisor.metadata.tasks`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any as Anything
from typing import TypeVar

from google.protobuf.message import Message

from supervisor.api.runtime.task.v3 import shim_pb2 as pb
from supervisor.errors import AlreadyExists, NotFound
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.task import Exit
from supervisor.shimv2.bootstrap import ShimAddress
from supervisor.shimv2.bundle import Bundle
from supervisor.shimv2.client import ShimClient
from supervisor.shimv2.settings import Timeouts
from supervisor.shimv2.shim_log import ShimLog
from supervisor.ttrpc.calls import ConnectionClosed

M = TypeVar("M", bound=Message)


class Phase(Enum):
    """Who may touch a task now."""

    CREATING = "creating"
    """Known by name only: the id is taken, every other call answers "not found"."""
    READY = "ready"
    DELETING = "deleting"
    """Still answers; the end of its shim's connection is expected."""
    LOST = "lost"
    """The shim died; what it left is being cleaned up."""


class Task:
    """One task. `ended` is settled when the task is gone, with how its first process ended."""

    def __init__(self, bundle: Bundle, binary: Path, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self.bundle = bundle
        self.binary = binary
        self.address: ShimAddress | None = None
        self.phase = Phase.CREATING
        self.making: asyncio.Future[Anything] | None = None
        """The step of a create that is under way: the shim's start, or its Create."""
        self.deletion: asyncio.Future[Exit] | None = None
        self.shim: ShimClient | None = None
        self.shim_pid = 0
        self.log: ShimLog | None = None
        self.failed_execs: set[str] = set()
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._revived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends: dict[str, asyncio.Future[Exit]] = {}
        """What is waited for, by exec id."""

    @property
    def namespace(self) -> Namespace:
        """Whose task it is."""
        return self.bundle.namespace

    @property
    def id(self) -> ContainerId:
        """The container's id, which is the task's too."""
        return self.bundle.id

    async def call(self, method: str, request: Message, reply: type[M], timeout: float | None = None) -> M:
        """Call the shim; raises what it answers, or ConnectionClosed when it is gone.

        Without a `timeout` the configured one of the method holds: the runtime behind it may hang.
        """
        if self.shim is None:
            raise ConnectionClosed
        limit = self._timeouts.of(method) if timeout is None else timeout
        return await self.shim.call(method, request, reply, limit)

    async def state(self, exec_id: str, timeout: float) -> pb.StateResponse:
        """What a process does now; raises NotFound when it, or the shim, is gone.

        Always the shim's answer, also when the end is known: answered at once, `ctr` was seen to lose output.
        """
        request = pb.StateRequest(id=self.id, exec_id=exec_id)
        try:
            return await self.call("State", request, pb.StateResponse, timeout)
        except ConnectionClosed:
            raise NotFound(f"task {self.id}: its shim is gone") from None

    async def wait(self, exec_id: str) -> Exit:
        """Wait for the end of a process. Outlives the shim: then the clean-up says how the task ended.

        However many wait and leave again, the shim is asked once: it keeps a question until it can answer.
        """
        end = self._ends.get(exec_id)
        if end is None:
            end = self._ends[exec_id] = asyncio.ensure_future(self._end(exec_id))
            end.add_done_callback(lambda done: self._waited(exec_id, done))
        return await asyncio.shield(end)

    def _waited(self, exec_id: str, end: asyncio.Future[Exit]) -> None:
        del self._ends[exec_id]
        if not end.cancelled():
            end.exception()  # all who waited may have left

    async def _end(self, exec_id: str) -> Exit:
        request = pb.WaitRequest(id=self.id, exec_id=exec_id)
        while True:
            revived = self._revived
            try:
                answer = await self.call("Wait", request, pb.WaitResponse)
            except ConnectionClosed:
                if exec_id:
                    raise
                either: set[asyncio.Future[Anything]] = {self.ended, revived}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self.ended.done():
                    return self.ended.result()
            else:
                moment = Nanoseconds(answer.exited_at.seconds * SECOND + answer.exited_at.nanos)
                return Exit(0, answer.exit_status, moment)

    def revive(self, shim: ShimClient) -> None:
        """Go on with a new connection to the shim that was there all along."""
        self.shim = shim
        revived, self._revived = self._revived, asyncio.get_running_loop().create_future()
        revived.set_result(None)

    def disconnect(self) -> None:
        """Let go of the shim, without effect on it."""
        if self.shim is not None:
            self.shim.close()
        if self.log is not None:
            self.log.close()

    def settle(self, end: Exit) -> None:
        """Tell those who wait that the task is gone."""
        if not self.ended.done():
            self.ended.set_result(end)


class Registry:
    """The tasks by name. An id is taken from before its task is made until nothing is left of it."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], Task] = {}

    def __iter__(self) -> Iterator[Task]:
        return iter(list(self._tasks.values()))

    def add(self, task: Task) -> None:
        """Take a task's id; raises AlreadyExists."""
        if (task.namespace, task.id) in self._tasks:
            raise AlreadyExists(f"task {task.id}")
        self._tasks[task.namespace, task.id] = task

    def drop(self, task: Task) -> None:
        """Give a task's id free."""
        if self._tasks.get((task.namespace, task.id)) is task:
            del self._tasks[task.namespace, task.id]

    def find(self, namespace: str, id_: str) -> Task | None:
        """The task that clients may see under a name."""
        task = self._tasks.get((namespace, id_))
        return None if task is None or task.phase is Phase.CREATING else task

    def of(self, namespace: str) -> list[Task]:
        """The tasks of a namespace that clients may see."""
        return [task for task in self if task.namespace == namespace and task.phase is not Phase.CREATING]

    def is_shared(self, task: Task) -> bool:
        """Whether the shim of a task serves another one too."""
        if task.address is None:
            return False
        return any(other.address == task.address for other in self if other is not task)
