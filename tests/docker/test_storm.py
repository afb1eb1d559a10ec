"""Many containers that are always to run, and a supervisor that is killed again and again meanwhile.

The long form, a hundred containers and twenty kills, is part of `make crash`.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.compat.program import eventually
from tests.docker.conftest import IMAGE
from tests.docker.engine import Engine
from tests.docker.test_replaced import supervisor_away

CONTAINERS, KILLS = (100, 20) if os.environ.get("CRASH") == "long" else (8, 3)
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
