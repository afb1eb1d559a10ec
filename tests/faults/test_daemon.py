"""SIGKILL of the daemon between any two steps of a task's life, and under a hundred containers."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import grpc
import pytest

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.types.task.task_pb2 import Status
from tests.compat.conftest import eventually_clean
from tests.conformance.driving import Bench, Box, holds
from tests.faults import records
from tests.faults.steps import killed_at, missing

LONG = os.environ.get("CRASH") == "long"
SHORT_STEPS = (1, 2, 3, 5, 7, 9, 12, 15, 18, 22, 26, 31)
LAST_STEP = 150
MANY = 100


def live(bench: Bench, name: str) -> None:
    """A whole life: create, start, exec, end, delete."""
    box = bench.box(name, "sleep", "1000")
    box.create()
    box.start()
    box.exec("e", "sh", "-c", "exit 3")
    box.start("e")
    assert box.wait("e").exit_status == 3
    box.kill()
    assert box.wait().exit_status == 137
    assert box.delete().exit_status == 137


def lives_through(bench: Bench, step: int) -> bool:
    """Whether a whole life has fewer steps; the daemon is dead when not."""
    with killed_at(bench.target, step):
        try:
            live(bench, f"c{step}")
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
    return True


def assert_in_order(bench: Bench) -> None:
    """What the store, the files and the kernel hold agrees, and all of it can be got rid of."""
    for one in bench.api.call(bench.api.tasks.List, pb.ListTasksRequest()).tasks:
        assert one.status in (Status.CREATED, Status.RUNNING, Status.STOPPED), one
        assert (one.status == Status.STOPPED) != Path(f"/proc/{one.pid}").exists(), one
    bench.clear()
    assert not eventually_clean(bench.target, bench.api.namespace)
    exits = Counter((container, process) for container, process, _ in records.exits(bench.target.root))
    assert not [name for name, count in exits.items() if count > 1], "an exit was told twice"


@pytest.mark.slow
@pytest.mark.timeout(3600 if LONG else 300)
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_killed_between_any_two_steps(bench: Bench) -> None:
    live(bench, "warm")  # threads are there, and what is done once has been done
    deaths = 0
    for step in range(1, LAST_STEP) if LONG else SHORT_STEPS:
        if lives_through(bench, step):
            break
        deaths += 1
        bench.target.kill()
        bench.target.start()
        bench.api.reconnect()
        assert_in_order(bench)
    print(f"killed at {deaths} steps")
    assert deaths >= len(SHORT_STEPS) // 2
    live(bench, "last")


def ends_when(bench: Bench, number: int) -> Box:
    """A container that runs until the file /tmp/end is there; its status is its number."""
    script = f"while [ ! -e /tmp/end{number % 2} ]; do sleep 0.2; done; exit {number}"
    return bench.running(f"c{number}", "sh", "-c", script)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_containers_while_the_daemon_restarts(bench: Bench) -> None:
    """All are there; those that end meanwhile, and those that end later, are told, each once."""
    boxes = [ends_when(bench, number) for number in range(MANY)]
    pids = {box.id: box.get().pid for box in boxes}
    bench.target.kill()
    (bench.rootfs / "tmp/end1").touch()
    odd = [box for box in boxes if int(box.id[1:]) % 2]
    holds(lambda: not any(Path(f"/proc/{pids[box.id]}").exists() for box in odd), "the end of half of them")
    bench.target.start()
    bench.api.reconnect()
    found = bench.api.call(bench.api.tasks.List, pb.ListTasksRequest()).tasks
    assert {one.id: one.pid for one in found} == pids
    assert {one.id for one in found if one.status == Status.STOPPED} == {box.id for box in odd}
    (bench.rootfs / "tmp/end0").touch()
    for box in boxes:
        assert box.wait().exit_status == int(box.id[1:])
        box.delete()
    told = records.exits(bench.target.root)
    assert Counter(told) == Counter((box.id, box.id, int(box.id[1:])) for box in boxes)
