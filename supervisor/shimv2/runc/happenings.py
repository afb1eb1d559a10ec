"""What happens to containers, as it is told to whoever listens (containerd: api/events/task.proto)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from supervisor.model.mount import Mount
from supervisor.shimv2.runc.reaper import Exit
from supervisor.shimv2.runc.stdio import StdioPaths


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to a container."""

    container: str


@dataclass(frozen=True, slots=True)
class Created(Happening):
    """The container exists; its init waits to be started, or to be restored from a checkpoint."""

    bundle: str
    rootfs: Sequence[Mount]
    stdio: StdioPaths
    pid: int
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class Started(Happening):
    """Init runs."""

    pid: int


@dataclass(frozen=True, slots=True)
class ExecAdded(Happening):
    """A further process is known, but does not run yet."""

    exec_id: str


@dataclass(frozen=True, slots=True)
class ExecStarted(Happening):
    """The further process runs."""

    exec_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class Exited(Happening):
    """A process is gone; `process` is the container's id for init, else the exec's."""

    process: str
    pid: int
    exit: Exit


@dataclass(frozen=True, slots=True)
class Deleted(Happening):
    """The container is gone."""

    pid: int
    exit: Exit


@dataclass(frozen=True, slots=True)
class Paused(Happening):
    """Every process is frozen."""


@dataclass(frozen=True, slots=True)
class Resumed(Happening):
    """The processes run again."""


@dataclass(frozen=True, slots=True)
class OutOfMemory(Happening):
    """The kernel killed a process of the container for want of memory."""


Tell = Callable[[Happening], None]
