"""Tasks as values: which exist, which shim holds each, and how processes ended (containerd: runtime/v2).

The shim alone knows what a process is doing now; a record says that the task is there and where to ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.instant import Nanoseconds


class TaskState(Enum):
    """How far a task has come. The order in which they are written is what a restart relies on."""

    CREATING = "creating"
    """The bundle and the shim may exist or not; nobody has been told of the task yet."""
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"
    DELETING = "deleting"
    """A delete has begun; it is carried to its end, by the next daemon if need be."""


@dataclass(frozen=True, slots=True)
class Stdio:
    """Where a process's streams go, exactly as the client said."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class ShimRecord:
    """The shim that holds a task: what to run for its clean-up, where it listens (empty: not known yet)."""

    binary: str
    address: str = ""
    version: int = 0
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it is stored."""

    namespace: Namespace
    id: ContainerId
    state: TaskState
    bundle: str
    runtime: str
    shim: ShimRecord
    stdio: Stdio
    pid: int = 0
    created_at: Nanoseconds | None = None
    started_at: Nanoseconds | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How one process ended: code, or 128 and the signal's number."""

    pid: int
    status: int
    exited_at: Nanoseconds


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """What is kept of one process's end, or of a process that never ran: then its pid is 0."""

    sequence: int
    container_id: str
    exec_id: str
    exit: Exit
    signal: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: Nanoseconds | None = None
    deleted: bool = False


def signal_of(status: int) -> int:
    """The signal that a status speaks of, 0 for none. A program can exit with such a code itself."""
    return status - 128 if 128 < status <= 192 else 0
