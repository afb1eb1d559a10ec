"""What happens to containers, and the events that tell of it (containerd: api/events/task.proto)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from supervisor.model.record import record
from supervisor.shimv2.runc.layouts import (
    TASK_CREATE,
    TASK_DELETE,
    TASK_EXEC_ADDED,
    TASK_EXEC_STARTED,
    TASK_EXIT,
    TASK_IO,
    TASK_OOM,
    TASK_PAUSED,
    TASK_RESUMED,
    TASK_START,
    timestamp,
)
from supervisor.shimv2.runc.reaper import Exit
from supervisor.shimv2.runc.wiring import StdioPaths


@record
class Happening:
    """Something that happened to a container. `topic` and `name` are its event's."""

    topic = ""
    name = ""

    container: str

    def event(self) -> bytes:
        """The message of the event."""
        raise NotImplementedError


@record
class Created(Happening):
    """The container exists; its init waits to be started, or to be restored from a checkpoint."""

    topic, name = "/tasks/create", "containerd.events.TaskCreate"

    bundle: str
    rootfs: Sequence[bytes]
    """Encoded mounts, as they came."""
    stdio: StdioPaths
    pid: int
    checkpoint: str = ""

    def event(self) -> bytes:
        """As Happening."""
        stdio = self.stdio
        io = TASK_IO.encode(
            stdin=stdio.stdin, stdout=stdio.stdout, stderr=stdio.stderr, terminal=stdio.terminal
        )
        return TASK_CREATE.encode(
            container_id=self.container,
            bundle=self.bundle,
            rootfs=self.rootfs,
            io=io,
            checkpoint=self.checkpoint,
            pid=self.pid,
        )


@record
class Started(Happening):
    """Init runs."""

    topic, name = "/tasks/start", "containerd.events.TaskStart"

    pid: int

    def event(self) -> bytes:
        """As Happening."""
        return TASK_START.encode(container_id=self.container, pid=self.pid)


@record
class ExecAdded(Happening):
    """A further process is known, but does not run yet."""

    topic, name = "/tasks/exec-added", "containerd.events.TaskExecAdded"

    exec_id: str

    def event(self) -> bytes:
        """As Happening."""
        return TASK_EXEC_ADDED.encode(container_id=self.container, exec_id=self.exec_id)


@record
class ExecStarted(Happening):
    """The further process runs."""

    topic, name = "/tasks/exec-started", "containerd.events.TaskExecStarted"

    exec_id: str
    pid: int

    def event(self) -> bytes:
        """As Happening."""
        return TASK_EXEC_STARTED.encode(container_id=self.container, exec_id=self.exec_id, pid=self.pid)


@record
class Exited(Happening):
    """A process is gone; `process` is the container's id for init, else the exec's."""

    topic, name = "/tasks/exit", "containerd.events.TaskExit"

    process: str
    pid: int
    exit: Exit

    def event(self) -> bytes:
        """As Happening."""
        return TASK_EXIT.encode(
            container_id=self.container,
            id=self.process,
            pid=self.pid,
            exit_status=self.exit.status,
            exited_at=timestamp(self.exit.at),
        )


@record
class Deleted(Happening):
    """The container is gone."""

    topic, name = "/tasks/delete", "containerd.events.TaskDelete"

    pid: int
    exit: Exit

    def event(self) -> bytes:
        """As Happening."""
        return TASK_DELETE.encode(
            container_id=self.container,
            pid=self.pid,
            exit_status=self.exit.status,
            exited_at=timestamp(self.exit.at),
        )


@record
class Paused(Happening):
    """Every process is frozen."""

    topic, name = "/tasks/paused", "containerd.events.TaskPaused"

    def event(self) -> bytes:
        """As Happening."""
        return TASK_PAUSED.encode(container_id=self.container)


@record
class Resumed(Happening):
    """The processes run again."""

    topic, name = "/tasks/resumed", "containerd.events.TaskResumed"

    def event(self) -> bytes:
        """As Happening."""
        return TASK_RESUMED.encode(container_id=self.container)


@record
class OutOfMemory(Happening):
    """The kernel killed a process of the container for want of memory."""

    topic, name = "/tasks/oom", "containerd.events.TaskOOM"

    def event(self) -> bytes:
        """As Happening."""
        return TASK_OOM.encode(container_id=self.container)


Tell = Callable[[Happening], None]
