"""States of a container's processes and what each state refuses (containerd: process/init_state.go).

One table per kind says in which state a verb is refused, and with which words; what is not in it
is allowed. Clients show the words to their users.
"""

from __future__ import annotations

from enum import Enum

from supervisor.errors import FailedPrecondition, NotFound, SupervisorError
from supervisor.model.instant import GO_ZERO
from supervisor.shimv2.runc.reaper import Exit
from supervisor.shimv2.runc.stdio import ProcessIO
from supervisor.shimv2.runc.wiring import StdioPaths
from supervisor.ttrpc.promise import Promise, Turns

NO_EXIT = Exit(0, GO_ZERO)


class State(Enum):
    """Where a process stands; PAUSING is shown while a pause is under way."""

    CREATED = "created"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPED = "stopped"
    DELETED = "deleted"


class Verb(Enum):
    """What a caller may ask of a process."""

    START = "start"
    KILL = "kill"
    PAUSE = "pause"
    RESUME = "resume"
    EXEC = "exec"
    UPDATE = "update"
    CHECKPOINT = "checkpoint"
    RESIZE = "resize"
    DELETE = "delete"


STATUS = {
    State.CREATED: 1,
    State.RUNNING: 2,
    State.STOPPED: 3,
    State.DELETED: 3,
    State.PAUSED: 4,
    State.PAUSING: 5,
}
"""Each state's number in `containerd.v1.types.Status`."""

_ALIVE = (State.RUNNING, State.PAUSING, State.PAUSED)
_ENDED = (State.STOPPED, State.DELETED)

Refusals = dict[tuple[State, Verb], SupervisorError]


def _refuse(verb: Verb, states: tuple[State, ...], text: str) -> Refusals:
    return {(state, verb): SupervisorError(text.format(state=state.value)) for state in states}


INIT_REFUSALS: Refusals = {
    **_refuse(Verb.START, (*_ALIVE, *_ENDED), "cannot start a {state} process"),
    **_refuse(Verb.PAUSE, (State.CREATED,), "cannot pause task in {state} state"),
    **_refuse(Verb.PAUSE, (State.PAUSING, State.PAUSED, *_ENDED), "cannot pause a {state} container"),
    **_refuse(Verb.RESUME, (State.CREATED,), "cannot resume task in {state} state"),
    **_refuse(Verb.RESUME, (State.RUNNING,), "cannot resume a {state} process"),
    **_refuse(Verb.RESUME, (State.PAUSING, *_ENDED), "cannot resume a {state} container"),
    **_refuse(Verb.EXEC, (State.PAUSING, State.PAUSED, *_ENDED), "cannot exec in a {state} state"),
    **_refuse(Verb.UPDATE, _ENDED, "cannot update a {state} container"),
    **_refuse(Verb.CHECKPOINT, (State.CREATED,), "cannot checkpoint a task in {state} state"),
    **_refuse(Verb.CHECKPOINT, _ENDED, "cannot checkpoint a {state} container"),
    **_refuse(Verb.RESIZE, _ENDED, "cannot resize a {state} container"),
    **_refuse(Verb.DELETE, _ALIVE, "cannot delete a {state} process"),
    (State.DELETED, Verb.DELETE): NotFound("process already deleted"),
    (State.DELETED, Verb.KILL): NotFound("process already finished"),
}

EXEC_REFUSALS: Refusals = {
    **_refuse(Verb.START, (*_ALIVE, *_ENDED), "cannot start a {state} process"),
    **_refuse(Verb.RESIZE, _ENDED, "cannot resize a {state} container"),
    **_refuse(Verb.DELETE, _ALIVE, "cannot delete a {state} process"),
    (State.DELETED, Verb.DELETE): NotFound("process already deleted"),
    (State.CREATED, Verb.KILL): FailedPrecondition("process not created"),
    (State.STOPPED, Verb.KILL): NotFound("process already finished"),
    (State.DELETED, Verb.KILL): NotFound("process already finished"),
}


class Process:
    """Init or an exec of a container.

    `reaped` is set when the kernel has told of the end, `exited` is done when the end may be known:
    between the two lies what has to be told first (the start, the exits of execs). The exit of one
    that is `forgotten`, deleted before it was started, is not told.
    """

    def __init__(self, exec_id: str, stdio: StdioPaths, spec: bytes = b"") -> None:
        self.exec_id = exec_id
        self.stdio = stdio
        self.spec = spec
        self.io = ProcessIO()
        self.pid = 0
        self.state = State.CREATED
        self.starting = False
        self.forgotten = False
        self.reaped: Exit | None = None
        self.exited: Promise[Exit] = Promise()
        # Taken for the length of a start, pause or delete, so that these do not overtake each other.
        self.operation = Turns()
        self._refusals = EXEC_REFUSALS if exec_id else INIT_REFUSALS

    def check(self, verb: Verb) -> None:
        """Raise the refusal of `verb` in the present state, if there is one."""
        refusal = self._refusals.get((self.state, verb))
        if refusal is not None:
            raise type(refusal)(str(refusal))

    @property
    def live(self) -> bool:
        """Whether an exit is still to be told: it is being started, or has been."""
        return not self.exited.done() and (self.starting or self.state in _ALIVE)

    @property
    def exit(self) -> Exit:
        """The recorded exit; code 0 at Go's zero time while there is none."""
        return self.exited.result() if self.exited.done() else NO_EXIT
