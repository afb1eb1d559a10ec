"""Functions in forked children: what they answer, what they have, what becomes of it when they die."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import pytest

from supervisor.errors import DeadlineExceeded, NotFound, SupervisorError, Unavailable
from supervisor.kernel.sockets import Socket, pair, send
from supervisor.shimv2.runc import forks, limits
from supervisor.shimv2.runc.forks import LINGER_SECONDS, Forks, answer
from supervisor.shimv2.runc.loop import Loop, default_signals
from supervisor.shimv2.runc.reaper import Reaper
from supervisor.ttrpc.promise import Promise, Turns, begin


class Here:
    """A loop in this thread: forks are made by processes of one thread."""

    def __init__(self) -> None:
        self.loop = Loop().open()
        self.reaper = Reaper()
        self.forks = Forks(self.loop, self.reaper)
        self.loop.handle_signals({signal.SIGCHLD: self.reaper.collect})

    def result(self, work: Coroutine[Promise[Any], None, Any]) -> Any:
        """Run the loop until the work has come to its end."""
        done = begin(work)
        done.then(lambda _: self.loop.stop())
        self.loop.run()
        self.loop._stopping = False
        return done.result()


@pytest.fixture
def here() -> Iterator[Here]:
    before = signal.getsignal(signal.SIGCHLD)
    made = Here()
    yield made
    made.forks.close()
    made.loop.close()
    default_signals()
    signal.signal(signal.SIGCHLD, before)


def same(value: Any) -> Any:
    return value


def fail() -> None:
    raise NotFound("no such thing")


def fail_differently() -> None:
    os.open("/nope", os.O_RDONLY)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def opened() -> tuple[list[int], list[int]]:
    pipe = list(os.pipe())
    os.write(pipe[1], b"from the child")
    return pipe, pipe


def descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def test_values_and_where_they_come_from(here: Here) -> None:
    assert here.result(here.forks.run(os.getpid)) != os.getpid()
    value = {"a": (1, "x", b"y", [None, True])}
    assert here.result(here.forks.run(same, value)) == value
    assert here.result(here.forks.run(same, b"x" * 3_000_000)) == b"x" * 3_000_000


def test_errors_keep_their_kind_and_text(here: Here) -> None:
    for _ in range(2):  # in a child that was made for it, and in one that stayed
        with pytest.raises(NotFound, match=r"^no such thing$"):
            here.result(here.forks.run(fail))
        with pytest.raises(NotFound, match="/nope: no such file"):
            here.result(here.forks.run(fail_differently))


def test_a_worker_stays_for_a_moment(here: Here) -> None:
    first = here.result(here.forks.run(os.getpid))
    assert here.result(here.forks.run(os.getpid)) == first
    here.result(here.loop.pause(2 * LINGER_SECONDS))
    assert not os.path.exists(f"/proc/{first}")
    assert here.forks._free is None
    assert here.result(here.forks.run(os.getpid)) != first


def test_a_worker_keeps_nothing_open(here: Here) -> None:
    before = here.result(here.forks.run(descriptors))
    numbers, handed = here.result(here.forks.open(opened))
    reader, writer = (handed[number] for number in numbers)
    os.close(writer)
    assert os.read(reader, 100) == b"from the child"
    assert os.read(reader, 100) == b""  # the child, which is still there, has no writing end
    os.close(reader)
    assert here.result(here.forks.run(descriptors)) == before


def test_two_at_once_have_a_child_each_and_one_stays(here: Here) -> None:
    async def both() -> list[int]:
        works = [begin(here.forks.run(slowly)) for _ in range(2)]
        return [await work for work in works]

    pids = here.result(both())
    assert len(set(pids)) == 2
    here.result(here.loop.pause(0.1))
    assert [os.path.exists(f"/proc/{pid}") for pid in pids].count(True) == 1


def slowly() -> int:
    time.sleep(0.2)
    return os.getpid()


def test_a_worker_that_is_expected_is_there_before(here: Here) -> None:
    here.forks.expect()
    here.forks.expect()
    assert here.forks._free is not None
    pid = here.forks._free.pid
    assert here.result(here.forks.run(os.getpid)) == pid


def test_the_end_of_all_can_be_waited_for(here: Here) -> None:
    for _ in range(2):
        pid = here.result(here.forks.run(os.getpid))
        here.forks.close()
        here.result(here.forks.ended(60))
        assert not os.path.exists(f"/proc/{pid}")


def test_who_has_the_answer_may_leave_before_its_end_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair()

    def sent_and_left(channel: Socket, data: memoryview, descriptors: Sequence[int]) -> int:
        sent = send(channel, data, descriptors)
        ours.recv(1 << 16)
        ours.close()
        return sent

    monkeypatch.setattr(forks, "send", sent_and_left)
    answer(theirs, lambda: ("all of it", ()))
    theirs.close()


def test_a_worker_that_was_killed_while_it_waited(here: Here) -> None:
    pid = here.result(here.forks.run(os.getpid))
    os.kill(pid, signal.SIGKILL)
    here.result(here.loop.pause(0.1))
    assert here.result(here.forks.run(os.getpid)) != pid


def test_a_worker_that_is_killed_before_it_reads(here: Here) -> None:
    pid = here.result(here.forks.run(os.getpid))
    os.kill(pid, signal.SIGSTOP)
    asked = begin(here.forks.run(os.getpid))
    os.kill(pid, signal.SIGKILL)

    async def wait() -> None:
        await asked

    with pytest.raises(Unavailable, match="was killed"):
        here.result(wait())


def test_limits_hold_in_the_child(here: Here) -> None:
    assert here.result(here.forks.run(limits.remaining)) is None
    assert 0 < here.result(here.forks.run(limits.remaining, limit=5.0)) <= 5


def test_descriptors_are_handed_over(here: Here) -> None:
    numbers, handed = here.result(here.forks.open(opened))
    reader, writer = (handed[number] for number in numbers)
    assert os.read(reader, 100) == b"from the child"
    assert not os.get_inheritable(reader)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_child_has_no_descriptor_but_those_it_is_given(here: Here) -> None:
    kept, other = os.pipe()

    def work() -> tuple[list[int], tuple[()]]:
        return [int(name) for name in os.listdir("/proc/self/fd")], ()

    async def ask() -> Any:
        return (await here.forks.start(work, (kept,)).answered)[0]

    found = here.result(ask())
    assert kept in found
    assert other not in found
    assert len(found) <= 6  # the standard streams, the one kept, its socket, the folder that is read
    os.close(kept)
    os.close(other)


def test_a_child_that_is_killed(here: Here) -> None:
    for _ in range(2):  # in a child that was made for it, and in one that stayed
        with pytest.raises(Unavailable, match="was killed"):
            here.result(here.forks.run(die))
        here.result(here.forks.run(os.getpid))


def test_many_at_once(here: Here) -> None:
    async def all_of_them() -> list[int]:
        forks = [here.forks.start(lambda number=number: (number, ())) for number in range(20)]  # type: ignore[misc]
        return [(await fork.answered)[0] for fork in forks]

    assert here.result(all_of_them()) == list(range(20))
    before = os.listdir("/proc/self/fd")
    assert here.result(all_of_them()) == list(range(20))
    assert os.listdir("/proc/self/fd") == before


def test_what_comes_late(here: Here) -> None:
    never: Promise[None] = Promise()
    assert here.result(here.loop.settled(never, 0.01)) is False
    soon: Promise[None] = Promise()
    here.loop.after(0.01, lambda: soon.settle(None))
    assert here.result(here.loop.settled(soon, 60)) is True


def test_timers_in_their_order_and_not_when_cancelled(here: Here) -> None:
    called: list[str] = []
    here.loop.after(0.02, lambda: called.append("second"))
    here.loop.after(0.01, lambda: called.append("first"))
    here.loop.after(0.0, lambda: called.append("never")).cancel()
    here.result(here.loop.pause(0.05))
    assert called == ["first", "second"]


def test_calls_of_other_threads_come_in_order(here: Here) -> None:
    called: list[int] = []
    done: Promise[None] = Promise()

    def call_all() -> None:
        for number in range(1000):
            here.loop.call(lambda number=number: called.append(number))  # type: ignore[misc]
        here.loop.call(lambda: done.settle(None))

    async def wait() -> None:
        await done

    thread = threading.Thread(target=call_all)
    thread.start()
    here.result(wait())
    thread.join()
    assert called == list(range(1000))


def test_turns_are_taken_in_the_order_of_asking() -> None:
    turns, order = Turns(), []
    gates: list[Promise[None]] = [Promise() for _ in range(3)]

    async def work(number: int) -> None:
        async with turns:
            order.append(number)
            await gates[number]

    works = [begin(work(number)) for number in range(3)]
    assert order == [0]
    gates[0].fail(DeadlineExceeded("too long"))
    assert order == [0, 1]
    gates[1].settle(None)
    gates[2].settle(None)
    assert order == [0, 1, 2]
    with pytest.raises(SupervisorError, match="too long"):
        works[0].result()
    assert [one.done() for one in works] == [True] * 3


def test_promises_are_settled_once() -> None:
    one: Promise[int] = Promise()
    seen: list[int] = []
    one.then(lambda done: seen.append(done.result()))
    one.settle(1)
    one.then(lambda done: seen.append(done.result()))
    one.settle_once()
    assert seen == [1, 1]
    with pytest.raises(AssertionError):
        one.settle(2)
