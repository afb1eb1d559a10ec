"""The processes of one container, and the order in which their ends are told (containerd: task/service.go).

Promises: an end is recorded, then those who wait are woken, then it is told, in one step; a start
is told before the end; the ends of execs before that of init. So init's end, once the kernel has
told of it, may have to wait: for its own start to be told, and for the last exec.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from supervisor.errors import AlreadyExists, FailedPrecondition, NotFound, SupervisorError
from supervisor.shimv2.runc.happenings import Exited, Tell
from supervisor.shimv2.runc.process import NO_EXIT, Process, State, Verb
from supervisor.shimv2.runc.reaper import Exit

_FROZEN = (State.PAUSING, State.PAUSED)


class Starting:
    """The context of one start."""

    def __init__(self, members: Members, process: Process) -> None:
        self._members = members
        self._process = process

    def __enter__(self) -> None:
        self._process.starting = True

    def __exit__(self, kind: object, *_: object) -> None:
        self._members.started(self._process, failed=kind is not None)


class Members:
    """Init and the execs of a container."""

    def __init__(self, container: str, init: Process, tell: Tell) -> None:
        self.init = init
        self._container = container
        self._tell = tell
        self._execs: dict[str, Process] = {}

    def find(self, exec_id: str) -> Process:
        """Init, or the exec of that id; raises NotFound."""
        if not exec_id:
            return self.init
        try:
            return self._execs[exec_id]
        except KeyError:
            raise NotFound(f"process does not exist {exec_id}") from None

    def add(self, process: Process) -> None:
        """Take in an exec that is yet to be started; raises AlreadyExists."""
        self.init.check(Verb.EXEC)
        if process.exec_id in self._execs:
            raise AlreadyExists(f"id {process.exec_id}")
        self._execs[process.exec_id] = process

    def remove(self, process: Process) -> None:
        """Forget an exec."""
        process.state = State.DELETED
        self._execs.pop(process.exec_id, None)
        self._wake_unstarted(process)

    def execs(self) -> list[Process]:
        """Every exec that is known."""
        return list(self._execs.values())

    def exec_ids_by_pid(self) -> dict[int, str]:
        """Which of the host's pids are execs that run."""
        return {one.pid: one.exec_id for one in self.execs() if one.pid and one.live}

    def shown_state(self, process: Process) -> State:
        """A process's state as it is answered: one that runs in a frozen container is frozen."""
        frozen = self.init.state in _FROZEN and process.state is State.RUNNING
        return self.init.state if frozen else process.state

    def starting(self, process: Process) -> Starting:
        """Around a start: its end, should it come, is not told before the body is left."""
        process.check(Verb.START)
        if process.exited.done():
            raise FailedPrecondition(f"the start of {process.exec_id} has failed before; delete it")
        if process is not self.init and self.init.reaped is not None:
            raise FailedPrecondition("container ID init process is not running")
        return Starting(self, process)

    def started(self, process: Process, *, failed: bool) -> None:
        """Note the end of a start; those who wait for an exec that will never run learn so."""
        if failed:
            self._wake_unstarted(process)
        process.starting = False
        self.record(process)
        self.record(self.init)

    def reaped(self, process: Process, exit_: Exit) -> None:
        """Note what the kernel told of a process."""
        process.reaped = exit_

    def record(self, process: Process) -> None:
        """Make a process's end known, if there is one that may be known now."""
        if process.reaped is None or process.starting or process.exited.done():
            return
        if process is self.init and any(one.live for one in self._execs.values()):
            return
        if process.state is not State.DELETED:
            process.state = State.STOPPED
        process.exited.settle(process.reaped)
        if not process.forgotten:
            name = process.exec_id or self._container
            self._tell(Exited(self._container, name, process.pid, process.reaped))
        self.record(self.init)

    def move(self, process: Process, before: State, after: State) -> None:
        """Change a state, unless an end has changed it meanwhile."""
        if process.state is before:
            process.state = after

    @contextmanager
    def forgetting_init(self) -> Iterator[None]:
        """Around the deletion of a container that was never started: its init's end is nobody's news."""
        self.init.forgotten = True
        try:
            yield
        except SupervisorError:
            self.init.forgotten = False
            raise

    def _wake_unstarted(self, process: Process) -> None:
        """Those who wait for an exec that will never run learn so; init stays created and can end yet."""
        if process is not self.init and not process.exited.done() and process.reaped is None:
            process.exited.settle(NO_EXIT)
