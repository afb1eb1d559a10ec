"""`sctr gc` against a real daemon."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import client_of
from tests.compat.conftest import a_target
from tests.compat.target import Target
from tests.images import TAG

pytestmark = [pytest.mark.root, pytest.mark.compat]


QUIET = "[gc]\nstartup_delay = 0.0\nmutation_threshold = 0\n"
"""Only a deletion, or a question, makes a run."""


@pytest.fixture
def quiet() -> Iterator[Target]:
    with a_target(containerd=False, config=QUIET) as target:
        yield target


def test_explain_plan_and_run(quiet: Target, image_tar: Path) -> None:
    sctr = client_of(quiet)
    sctr.ok("images", "import", str(image_tar))
    (row,) = sctr.json("images", "ls")
    told = sctr.json("gc", "explain", "content", row["digest"])
    assert told["reachable"]
    assert [(hop["type"], hop["key"]) for hop in told["hops"]] == [("image", TAG), ("content", row["digest"])]
    assert "an image that does not expire" in sctr.ok("gc", "explain", "images", TAG)
    sctr.ok("images", "rm", "--sync", TAG)
    assert "not found" in sctr.fails("gc", "explain", "content", row["digest"])

    data = "nothing keeps this"
    digest = f"sha256:{hashlib.sha256(data.encode()).hexdigest()}"
    quiet.ctr(sctr.namespace).run("content", "ingest", "--expected-digest", digest, "x", stdin=data)
    assert "unreachable, goes at the next run" in sctr.ok("gc", "explain", "content", digest)
    plan = sctr.json("gc", "plan")
    mine = {"namespace": sctr.namespace, "type": "content", "key": digest, "size": len(data)}
    assert (plan["objects"], plan["size"]) == ([mine], len(data))
    assert digest in sctr.ok("gc", "plan")
    assert sctr.json("gc", "run", plan["id"])["removed"] == {"content": 1}
    assert "make a new one" in sctr.fails("gc", "run", plan["id"])
    assert "removed nothing" in sctr.ok("gc", "run")
    assert "is not known; there are: container" in sctr.fails("gc", "explain", "blob", "x")
    details = quiet.ctr(sctr.namespace).out("plugins", "ls", "-d", "id==scheduler")
    for name, value in (("PauseThreshold", "0.02"), ("MutationThreshold", "0"), ("ScheduleDelay", "0s")):
        assert re.search(rf"{name}\s+{value}$", details, re.MULTILINE), "contract 12.2"
