"""Waiting with a limit on the shim's loop."""

from __future__ import annotations

from supervisor.ttrpc.promise import Promise, begin
from tests.shimv2.runc.driving import Listening, eventually


def test_whoever_has_waited_long_enough_leaves_nothing(listening: Listening) -> None:
    """A client that asks again and again must not make a shim grow as long as its container runs."""
    never: Promise[int] = Promise()
    outcomes: list[Promise[bool]] = []

    def wait() -> None:
        outcomes.extend(begin(listening.loop.settled(never, 0.001)) for _ in range(100))

    listening.within(wait)
    eventually(lambda: all(one.done() for one in outcomes), "the end of the limit")
    assert not any(one.result() for one in outcomes)
    assert not never._waiting


def test_what_comes_in_time_is_told(listening: Listening) -> None:
    comes: Promise[int] = Promise()
    outcomes: list[Promise[bool]] = []
    listening.within(lambda: outcomes.append(begin(listening.loop.settled(comes, 60))))
    listening.within(lambda: comes.settle(1))
    assert outcomes[0].result()
    listening.within(lambda: outcomes.append(begin(listening.loop.settled(comes, 0))))
    assert outcomes[1].result()
