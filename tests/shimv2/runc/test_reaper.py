"""Claiming, collecting, spawning: no exit is lost, none goes to the wrong one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pytest

from supervisor.shimv2.runc.reaper import Exit, Reaper
from supervisor.shimv2.runc.spawn import spawn
from tests.shimv2.runc.driving import eventually


class Collecting:
    """A reaper whose collecting is done by hand, in this thread; only for children of this test."""

    def __init__(self) -> None:
        self.reaper = Reaper()

    def until(self, condition: Callable[[], object]) -> None:
        def tried() -> bool:
            self.reaper.collect()
            return bool(condition())

        eventually(tried)


@pytest.fixture
def collecting() -> Collecting:
    return Collecting()


def started(shell: str) -> int:
    return os.posix_spawnp("sh", ["sh", "-c", shell], os.environ)


def test_exit_codes_and_signals(collecting: Collecting) -> None:
    told: dict[str, Exit] = {}
    plain, killed = started("exit 7"), started("kill -9 $$")
    collecting.reaper.claim(plain, lambda exit_: told.update(plain=exit_))
    collecting.reaper.claim(killed, lambda exit_: told.update(killed=exit_))
    collecting.until(lambda: len(told) == 2)
    assert (told["plain"].status, told["plain"].signal) == (7, 0)
    assert (told["killed"].status, told["killed"].signal) == (137, 9)
    assert not collecting.reaper.kill(plain, signal.SIGTERM)


def test_an_exit_before_its_claim_is_kept_during_a_start(collecting: Collecting) -> None:
    told: list[Exit] = []
    with collecting.reaper.expecting:
        pid = os.posix_spawnp("sh", ["sh", "-c", "exit 3"], os.environ)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        collecting.reaper.collect()
        collecting.reaper.claim(pid, told.append)
    assert [one.status for one in told] == [3]
    assert not collecting.reaper.kill(pid, 0)


def test_a_claimed_process_can_be_signalled(collecting: Collecting) -> None:
    told: list[Exit] = []
    with collecting.reaper.expecting:
        pid = os.posix_spawnp("sleep", ["sleep", "1000"], os.environ)
        collecting.reaper.claim(pid, told.append)
    assert collecting.reaper.kill(pid, signal.SIGTERM)
    collecting.until(lambda: told)
    assert told[0].status == 128 + signal.SIGTERM


def test_unknown_exits_are_dropped_outside_of_starts(collecting: Collecting) -> None:
    pid = os.posix_spawnp("true", ["true"], os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    collecting.reaper.collect()
    told: list[Exit] = []
    with collecting.reaper.expecting:
        collecting.reaper.claim(pid, told.append)
    assert told == []


def test_a_missing_program_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        spawn(["no-such-program"], env={}, descriptors={})


def test_a_program_is_waited_for() -> None:
    env = {"PATH": os.environ["PATH"]}
    assert spawn(["sh", "-c", "exit 7"], env=env, descriptors={}).wait() == 7
    child = spawn(["sh", "-c", "sleep 1000 & wait"], env=env, descriptors={})
    assert child.wait(0.01) is None
    child.kill_group()
    assert child.wait(0.01) == 137


def test_a_child_has_the_named_descriptors_even_if_numbers_cross() -> None:
    (first, to_first), (second, to_second) = os.pipe(), os.pipe()
    unnamed = os.open("/dev/null", os.O_RDONLY)
    script = (
        f"import os; os.write({to_first}, b'1'); os.write({to_second}, b'2');"
        f" os.write({to_first}, b'open' if os.path.exists('/proc/self/fd/{unnamed}') else b'closed')"
    )
    child = spawn(
        [sys.executable, "-c", script], env={}, descriptors={to_first: to_second, to_second: to_first}
    )
    assert child.wait() == 0
    assert (os.read(first, 10), os.read(second, 10)) == (b"2", b"1closed")
    for descriptor in (first, to_first, second, to_second, unnamed):
        os.close(descriptor)
