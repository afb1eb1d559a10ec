"""Functions in forked children: what they answer, what they have, what becomes of it when they die."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from supervisor.errors import DeadlineExceeded, NotFound, SupervisorError, Unavailable
from supervisor.shimv2.runc import limits
from supervisor.shimv2.runc.forks import Forks
from supervisor.shimv2.runc.loop import Loop
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
    made.loop.close()
    signal.signal(signal.SIGCHLD, before)


def test_values_and_where_they_come_from(here: Here) -> None:
    assert here.result(here.forks.run(os.getpid)) != os.getpid()
    value = {"a": (1, "x", b"y", [None, True])}
    assert here.result(here.forks.run(lambda: value)) == value
    assert here.result(here.forks.run(lambda: b"x" * 3_000_000)) == b"x" * 3_000_000


def test_errors_keep_their_kind_and_text(here: Here) -> None:
    def fail() -> None:
        raise NotFound("no such thing")

    def fail_differently() -> None:
        os.open("/nope", os.O_RDONLY)

    with pytest.raises(NotFound, match=r"^no such thing$"):
        here.result(here.forks.run(fail))
    with pytest.raises(NotFound, match="/nope: no such file"):
        here.result(here.forks.run(fail_differently))


def test_limits_hold_in_the_child(here: Here) -> None:
    assert here.result(here.forks.run(limits.remaining)) is None
    assert 0 < here.result(here.forks.run(limits.remaining, 5.0)) <= 5


def test_descriptors_are_handed_over(here: Here) -> None:
    def work() -> tuple[list[int], list[int]]:
        pipe = list(os.pipe())
        os.write(pipe[1], b"from the child")
        return pipe, pipe

    numbers, handed = here.result(here.forks.open(work))
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
    with pytest.raises(Unavailable, match="was killed"):
        here.result(here.forks.run(lambda: os.kill(os.getpid(), signal.SIGKILL)))


def test_many_at_once(here: Here) -> None:
    async def all_of_them() -> list[int]:
        forks = [here.forks.start(lambda number=number: (number, ())) for number in range(20)]  # type: ignore[misc]
        return [(await fork.answered)[0] for fork in forks]

    assert here.result(all_of_them()) == list(range(20))
    descriptors = os.listdir("/proc/self/fd")
    assert here.result(all_of_them()) == list(range(20))
    assert os.listdir("/proc/self/fd") == descriptors


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
