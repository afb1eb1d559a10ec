"""The order in which ends become known (contract: tasks 3.4, 9.1)."""

from __future__ import annotations

import pytest

from supervisor.errors import AlreadyExists, FailedPrecondition, NotFound, SupervisorError
from supervisor.model.instant import Nanoseconds
from supervisor.shimv2.runc.happenings import Exited, Happening
from supervisor.shimv2.runc.members import Members
from supervisor.shimv2.runc.process import NO_EXIT, Process, State
from supervisor.shimv2.runc.reaper import Exit
from supervisor.shimv2.runc.wiring import StdioPaths

ENDED = Exit(7, Nanoseconds(1))


class Told:
    """A container's members and what was told of them."""

    def __init__(self) -> None:
        self.happenings: list[Happening] = []
        self.init = Process("", StdioPaths())
        self.members = Members("c1", self.init, self.happenings.append)

    def running(self, exec_id: str) -> Process:
        process = Process(exec_id, StdioPaths())
        self.members.add(process)
        process.state = State.RUNNING
        return process

    def ends(self, process: Process) -> None:
        self.members.reaped(process, ENDED)
        self.members.record(process)

    def names(self) -> list[str]:
        return [one.process for one in self.happenings if isinstance(one, Exited)]


@pytest.fixture
def told() -> Told:
    one = Told()
    one.init.state = State.RUNNING
    return one


def test_an_end_is_recorded_then_waiters_wake_then_it_is_told(told: Told) -> None:
    seen: list[tuple[State, int]] = []
    told.init.exited.then(lambda _: seen.append((told.init.state, len(told.happenings))))
    told.ends(told.init)
    assert seen == [(State.STOPPED, 0)]
    assert told.happenings == [Exited("c1", "c1", 0, ENDED)]


def test_init_ends_after_its_execs(told: Told) -> None:
    execs = [told.running("e1"), told.running("e2")]
    told.ends(told.init)
    assert not told.init.exited.done()
    for process in execs:
        told.ends(process)
    assert told.names() == ["e1", "e2", "c1"]


def test_no_exec_starts_once_init_is_gone(told: Told) -> None:
    process = Process("e1", StdioPaths())
    told.members.add(process)
    told.members.reaped(told.init, ENDED)
    with (
        pytest.raises(FailedPrecondition, match="init process is not running"),
        told.members.starting(process),
    ):
        pytest.fail("the start was let through")


def test_an_end_during_the_start_waits_for_it(told: Told) -> None:
    told.init.state = State.CREATED
    with told.members.starting(told.init):
        told.ends(told.init)
        assert told.names() == []
        told.init.state = State.RUNNING
    assert told.names() == ["c1"]
    assert told.init.state is State.STOPPED


def test_a_failed_start_of_an_exec_wakes_its_waiters_and_frees_init(told: Told) -> None:
    process = Process("e1", StdioPaths())
    told.members.add(process)
    with pytest.raises(SupervisorError, match="it broke"):
        _break(told, process)
    assert process.exited.result() == NO_EXIT
    assert process.state is State.CREATED
    assert told.names() == ["c1"]
    with pytest.raises(FailedPrecondition, match="delete it"):
        _start(told, process)


def test_an_end_is_told_once(told: Told) -> None:
    told.ends(told.init)
    told.ends(told.init)
    assert told.names() == ["c1"]


def test_the_end_of_one_that_was_never_started_is_not_told(told: Told) -> None:
    told.init.state = State.CREATED
    with told.members.forgetting_init():
        told.ends(told.init)
    assert told.happenings == []
    assert told.init.exited.done()


def test_ids_of_execs(told: Told) -> None:
    told.running("e1")
    with pytest.raises(AlreadyExists, match="id e1"):
        told.running("e1")
    with pytest.raises(NotFound, match="process does not exist e2"):
        told.members.find("e2")
    told.members.remove(told.members.find("e1"))
    told.running("e1")


def test_execs_of_a_paused_container_show_as_paused(told: Told) -> None:
    process = told.running("e1")
    told.init.state = State.PAUSED
    assert told.members.shown_state(process) is State.PAUSED


def _start(told: Told, process: Process) -> None:
    with told.members.starting(process):
        pass


def _break(told: Told, process: Process) -> None:
    with told.members.starting(process):
        told.ends(told.init)
        raise SupervisorError("it broke")
