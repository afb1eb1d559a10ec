"""Every state and verb against the contract's tables (tasks 3.2)."""

from __future__ import annotations

import pytest

from supervisor.errors import FailedPrecondition, NotFound, SupervisorError
from supervisor.shimv2.runc.process import NO_EXIT, Process, State, Verb
from supervisor.shimv2.runc.wiring import StdioPaths

ALLOWED_TO_INIT = {
    State.CREATED: {Verb.START, Verb.KILL, Verb.EXEC, Verb.UPDATE, Verb.RESIZE, Verb.DELETE},
    State.RUNNING: {Verb.KILL, Verb.PAUSE, Verb.EXEC, Verb.UPDATE, Verb.CHECKPOINT, Verb.RESIZE},
    State.PAUSED: {Verb.KILL, Verb.RESUME, Verb.UPDATE, Verb.CHECKPOINT, Verb.RESIZE},
    State.PAUSING: {Verb.KILL, Verb.UPDATE, Verb.CHECKPOINT, Verb.RESIZE},
    State.STOPPED: {Verb.KILL, Verb.DELETE},
    State.DELETED: set(),
}
ALLOWED_TO_EXEC = {
    State.CREATED: {Verb.START, Verb.RESIZE, Verb.DELETE},
    State.RUNNING: {Verb.KILL, Verb.RESIZE},
    State.STOPPED: {Verb.DELETE},
    State.DELETED: set(),
}
VERBS_OF_EXECS = (Verb.START, Verb.KILL, Verb.RESIZE, Verb.DELETE)


def _process(exec_id: str, state: State) -> Process:
    process = Process(exec_id, StdioPaths())
    process.state = state
    return process


def _allowed(process: Process, verb: Verb) -> bool:
    try:
        process.check(verb)
    except SupervisorError:
        return False
    return True


@pytest.mark.parametrize("state", State)
def test_what_init_allows(state: State) -> None:
    process = _process("", state)
    assert {verb for verb in Verb if _allowed(process, verb)} == ALLOWED_TO_INIT[state]


@pytest.mark.parametrize("state", ALLOWED_TO_EXEC)
def test_what_an_exec_allows(state: State) -> None:
    process = _process("e1", state)
    assert {verb for verb in VERBS_OF_EXECS if _allowed(process, verb)} == ALLOWED_TO_EXEC[state]


@pytest.mark.parametrize(
    ("exec_id", "state", "verb", "error", "text"),
    [
        ("", State.RUNNING, Verb.START, SupervisorError, "cannot start a running process"),
        ("", State.CREATED, Verb.PAUSE, SupervisorError, "cannot pause task in created state"),
        ("", State.PAUSED, Verb.PAUSE, SupervisorError, "cannot pause a paused container"),
        ("", State.RUNNING, Verb.RESUME, SupervisorError, "cannot resume a running process"),
        ("", State.PAUSED, Verb.EXEC, SupervisorError, "cannot exec in a paused state"),
        ("", State.STOPPED, Verb.UPDATE, SupervisorError, "cannot update a stopped container"),
        ("", State.CREATED, Verb.CHECKPOINT, SupervisorError, "cannot checkpoint a task in created state"),
        ("", State.PAUSED, Verb.DELETE, SupervisorError, "cannot delete a paused process"),
        ("e1", State.STOPPED, Verb.START, SupervisorError, "cannot start a stopped process"),
        ("e1", State.CREATED, Verb.KILL, FailedPrecondition, "process not created"),
        ("e1", State.STOPPED, Verb.KILL, NotFound, "process already finished"),
        ("e1", State.STOPPED, Verb.RESIZE, SupervisorError, "cannot resize a stopped container"),
    ],
)
def test_words_of_refusals(
    exec_id: str, state: State, verb: Verb, error: type[SupervisorError], text: str
) -> None:
    with pytest.raises(SupervisorError) as refused:
        _process(exec_id, state).check(verb)
    assert (type(refused.value), str(refused.value)) == (error, text)


def test_no_exit_is_the_zero_time() -> None:
    assert Process("", StdioPaths()).exit == NO_EXIT
