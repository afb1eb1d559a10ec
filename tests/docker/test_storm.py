"""Many containers that are always to run, and a supervisor that is killed again and again meanwhile.

The long form, a hundred containers and twenty kills, is part of `make crash`.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.shimv2.settings import BUNDLES
from tests.compat.program import eventually
from tests.compat.target import CONTAINERD
from tests.docker.conftest import IMAGE, remove_all
from tests.docker.docker import Docker
from tests.docker.engine import NAMESPACE, Engine, an_engine
from tests.docker.test_replaced import supervisor_away

CONTAINERS, KILLS = (100, 20) if os.environ.get("CRASH") == "long" else (8, 3)
MOMENTS = [
    ("", 0.0),
    ("config.json", 0.0),
    ("address", 0.0),
    *(("init.pid", milliseconds / 1000) for milliseconds in (0, 5, 10, 20, 40, 80)),
]
"""When the supervisor is killed: so many seconds after a file is in the task's bundle. With the last one the
runtime has made the container, the answer is under way, and Docker's next call is the start."""
FILTERS = ("--filter=type=container", "--filter=event=start", "--filter=event=die")


def told(record: Path) -> Counter[tuple[str, str]]:
    """How often each container's starts and deaths were told to one who followed them."""
    lines = record.read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return Counter((event["id"], event["Action"]) for event in events)


@pytest.mark.timeout(1200)
def test_none_is_lost_and_none_is_started_again(live_engine: Engine, tmp_path: Path) -> None:
    docker, record = live_engine.docker, tmp_path / "events"
    kill_after = {CONTAINERS * number // KILLS for number in range(1, KILLS + 1)}
    before: dict[str, tuple[int, str]] = {}
    command = ("events", f"--since={time.time()}", *FILTERS, "--format={{json .}}")
    with record.open("wb") as sink, docker.running(*command, stdout=sink):
        for number in range(1, CONTAINERS + 1):
            id_ = docker.detached("--restart=always", IMAGE, "sleep", "10000")
            before[id_] = docker.pid(id_), docker.inspect(id_, "State.StartedAt")
            if number in kill_after:
                with supervisor_away(live_engine):
                    pass
        last = docker.detached(IMAGE, "true")
        eventually(lambda: told(record)[last, "die"], what="the events to be told")
    found = json.loads(docker.out("inspect", *before))
    assert {one["Id"]: (one["State"]["Pid"], one["State"]["StartedAt"]) for one in found} == before
    assert [one["RestartCount"] for one in found] == [0] * CONTAINERS
    assert before.keys() <= set(docker.out("ps", "--quiet", "--no-trunc").split())
    events = Counter({event: count for event, count in told(record).items() if event[0] in before})
    assert events == Counter((id_, "start") for id_ in before)


def killed_at(engine: Engine, moment: tuple[str, float], *words: str) -> int:
    """Kill the supervisor while a command is at work, start it again; the command's status."""
    bundles = engine.target.state / BUNDLES / NAMESPACE
    before, (file, later) = set(bundles.glob("*")), moment
    with engine.docker.running(*words) as command:
        end = time.monotonic() + 30
        while file and not any((made / file).exists() for made in set(bundles.glob("*")) - before):
            assert time.monotonic() < end, f"no {file} was made"
        time.sleep(later)
        with supervisor_away(engine):
            pass
        return command.wait(timeout=60)


@pytest.fixture(scope="module")
def hasty_engine(store: str, image_tar: Path) -> Iterator[Engine]:
    """One whose supervisor does not wait long for somebody to start what was made before it came."""
    with an_engine(store, "--live-restore", config="[timeouts]\ntask_unstarted = 0.5\n") as engine:
        engine.docker.run("load", "--input", str(image_tar))
        yield engine


@pytest.fixture
def cut_off(hasty_engine: Engine) -> Iterator[Engine]:
    """That one, without containers, and nothing left of them afterwards."""
    yield hasty_engine
    remove_all(hasty_engine.docker)
    eventually(lambda: not hasty_engine.target.leftovers(NAMESPACE), what="an end without leftovers")


def settled(engine: Engine) -> None:
    """Wait until the supervisor has no task any more that was made and not started."""
    ctr = engine.target.ctr(NAMESPACE)
    eventually(lambda: all(row[2] != "CREATED" for row in ctr.table("tasks", "ls")), what="no such task")


def comes_up(docker: Docker, name: str) -> None:
    """Whatever was made of it, it can be run."""
    if docker.state(name) == "running":
        # Docker may have heard of the start after it had given it up, and taken the root's mount away.
        docker.run("stop", "--time=0", name)
    docker.run("start", name)
    assert Path(f"/proc/{docker.pid(name)}/cmdline").read_bytes() == b"sleep\x0010000\x00"
    assert docker.out("exec", name, "echo", "in") == "in\n"


@pytest.mark.slow
@pytest.mark.skipif(CONTAINERD, reason="it keeps a task that Docker neither starts nor deletes")
@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_killed_while_a_container_is_started(cut_off: Engine, moment: tuple[str, float]) -> None:
    """It runs if that was the answer; whatever came of it, one can be run and another be removed."""
    docker = cut_off.docker
    for name in ("kept", "given-up"):
        docker.run("create", f"--name={name}", IMAGE, "sleep", "10000")
        if killed_at(cut_off, moment, "start", name) == 0:
            assert docker.out("exec", name, "echo", "in") == "in\n"
    docker.run("rm", "--force", "given-up")
    settled(cut_off)
    comes_up(docker, "kept")


@pytest.mark.slow
@pytest.mark.skipif(CONTAINERD, reason="it keeps a task that Docker neither starts nor deletes")
@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_killed_while_a_container_is_made_and_run(cut_off: Engine, moment: tuple[str, float]) -> None:
    docker = cut_off.docker
    words = ("run", "-d", "--name=box", IMAGE, "sleep", "10000")
    if killed_at(cut_off, moment, *words) == 0:
        assert docker.out("exec", "box", "echo", "in") == "in\n"
    settled(cut_off)
    if not docker.out("ps", "--all", "--quiet", "--filter=name=box"):
        docker.run(*words)
    comes_up(docker, "box")
