"""Containers that run again, by what they really did: each run leaves a line in a file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.model.instant import SECOND, parse_rfc3339
from tests.cli.conftest import Sctr, emptied
from tests.compat.conftest import a_target
from tests.compat.target import Target, eventually
from tests.images import TAG

pytestmark = [pytest.mark.compat, pytest.mark.root]

QUICK = "backoff = 0.05\nbackoff_limit = 0.2\ninterval = 1.0\n"
RUNNING = ("--label", "containerd.io/restart.status=running")


def policy(text: str) -> tuple[str, str]:
    return "--label", f"containerd.io/restart.policy={text}"


@contextmanager
def a_daemon(image_tar: Path, more: str = "", settings: str = QUICK) -> Iterator[tuple[Target, Sctr]]:
    with a_target(containerd=False, config=f"\n[restart]\n{settings}{more}") as target:
        namespace = f"restarts-{uuid.uuid4().hex[:8]}"
        target.namespaces.append(namespace)
        sctr = Sctr(target.address, namespace)
        sctr.ok("images", "import", str(image_tar))
        try:
            yield target, sctr
        finally:
            for name in sctr.ok("ps", "-aq").split():
                target.ctr(namespace).run("containers", "label", name, "containerd.io/restart.status=")
            emptied(sctr)


@pytest.fixture(scope="module")
def daemon(image_tar: Path) -> Iterator[tuple[Target, Sctr]]:
    with a_daemon(image_tar) as made:
        yield made


def _ok(target: Target, *words: str) -> str:
    """What `ctr` says."""
    done = target.ctr(target.namespaces[-1]).run(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout if isinstance(done.stdout, str) else done.stdout.decode()


class Runs:
    """A container that writes a line each time it runs."""

    def __init__(self, sctr: Sctr, folder: Path, name: str, script: str, *labels: str) -> None:
        self.name, self.file = name, folder / "runs"
        self.file.touch()
        mount = f"type=bind,src={folder},dst=/out,options=rbind:rw"
        words = ["--name", name, "--mount", mount, *RUNNING, *labels]
        sctr.ok("run", "-d", *words, TAG, "/bin/sh", "-c", f"echo run >> /out/runs; {script}")

    @property
    def count(self) -> int:
        return len(self.file.read_text().splitlines())

    def reach(self, count: int) -> None:
        eventually(lambda: self.count >= count, what=f"{count} runs of {self.name}")


def test_always_means_also_after_success(daemon: tuple[Target, Sctr], tmp_path: Path) -> None:
    target, sctr = daemon
    runs = Runs(sctr, tmp_path, "always", "exit 0", *policy("always"))
    runs.reach(4)
    info = _ok(target, "containers", "info", "always")
    assert '"containerd.io/restart.count"' in info


def test_on_failure_ends_with_success_or_its_count(daemon: tuple[Target, Sctr], tmp_path: Path) -> None:
    """It fails twice and then ends well; the other one is restarted twice and no more."""
    _, sctr = daemon
    well, often = tmp_path / "well", tmp_path / "often"
    well.mkdir()
    often.mkdir()
    script = "[ $(wc -l < /out/runs) -ge 3 ]"
    good = Runs(sctr, well, "fails-twice", script, *policy("on-failure"))
    bad = Runs(sctr, often, "fails-always", "exit 5", *policy("on-failure:2"))
    good.reach(3)
    bad.reach(3)
    later = Runs(sctr, tmp_path, "witness", "exit 0", *policy("always"))
    later.reach(6)
    assert (good.count, bad.count) == (3, 3)


def test_stopped_is_stopped(daemon: tuple[Target, Sctr], tmp_path: Path) -> None:
    """A label stops a running container, and another has it run again."""
    target, sctr = daemon
    runs = Runs(sctr, tmp_path, "switched", "sleep 1000")
    runs.reach(1)
    _ok(target, "containers", "label", "switched", "containerd.io/restart.status=stopped")
    eventually(lambda: "switched" not in _ok(target, "tasks", "ls"), what="the task's end")
    _ok(target, "containers", "label", "switched", "containerd.io/restart.status=running")
    runs.reach(2)
    eventually(lambda: "RUNNING" in _ok(target, "tasks", "ls"), what="a running task")


def test_what_was_stopped_on_purpose_stays_so(daemon: tuple[Target, Sctr], tmp_path: Path) -> None:
    _, sctr = daemon
    mark = ("--label", "containerd.io/restart.explicitly-stopped=true")
    runs = Runs(sctr, tmp_path, "purpose", "exit 0", *policy("unless-stopped"), *mark)
    folder = tmp_path / "w"
    folder.mkdir()
    witness = Runs(sctr, folder, "witness-2", "exit 0", *policy("always"))
    witness.reach(4)
    assert runs.count == 1


def test_a_killed_daemon_restarts_nothing_that_runs(image_tar: Path, tmp_path: Path) -> None:
    """What runs on runs on; what ended while no daemon was there runs again, once."""
    steady, ending = tmp_path / "steady", tmp_path / "ending"
    steady.mkdir()
    ending.mkdir()
    with a_daemon(image_tar) as (target, sctr):
        runs_on = Runs(sctr, steady, "steady", "sleep 1000", *policy("always"))
        ends = Runs(
            sctr,
            ending,
            "ending",
            "while [ ! -e /out/end ]; do sleep 0.05; done; rm /out/end",
            *policy("always"),
        )
        runs_on.reach(1)
        ends.reach(1)
        target.kill()
        (ending / "end").touch()
        eventually(lambda: not (ending / "end").exists(), what="the container's end")
        target.start()
        ends.reach(2)
        eventually(lambda: sctr.ok("ps").count("ending") == 1, what="the container")
        assert (runs_on.count, ends.count) == (1, 2)


def test_a_limit_of_starts_outlives_the_daemon(image_tar: Path, tmp_path: Path) -> None:
    with a_daemon(image_tar, "start_limit = 3\nhealthy = 100.0\n") as (target, sctr):
        runs = Runs(sctr, tmp_path, "limited", "exit 1", *policy("always"))
        runs.reach(4)
        target.kill()
        target.start()
        eventually(lambda: "is given up after 3 attempts" in target.news(), what="the reason in the log")
        assert runs.count == 4


def _known(sctr: Sctr, name: str) -> dict[str, Any]:
    """What `sctr restarts` says of a container."""
    return next((row for row in sctr.json("restarts") if row["container"] == name), {})


def test_what_the_monitor_knows(daemon: tuple[Target, Sctr], tmp_path: Path) -> None:
    """Policy, count, last exit, and why a container is left alone."""
    target, sctr = daemon
    often = tmp_path / "often"
    often.mkdir()
    Runs(sctr, often, "k-often", "exit 5", *policy("on-failure:2"))
    sctr.ok("run", "-d", "--name", "k-runs", *RUNNING, TAG, "sleep", "1000")
    sctr.ok("run", "-d", "--name", "k-no", *RUNNING, *policy("no"), TAG, "sh", "-c", "exit 3")
    sctr.ok("run", "-d", "--name", "k-odd", *RUNNING, *policy("sometimes"), TAG, "true")
    sctr.ok("run", "-d", "--name", "k-other", TAG, "true")
    allowed = "is left alone: it was restarted 2 times, as often as its policy allows"
    eventually(lambda: _known(sctr, "k-often").get("why") == allowed, what="the reason")
    row = _known(sctr, "k-often")
    assert (row["policy"], row["wanted"], row["restarts"]) == ("on-failure:2", "running", 2)
    assert (row["running"], row["exit_code"], row["exit_reason"]) == (False, 5, "exited with code 5")
    assert row["next_attempt_at"] is None
    assert row["last_attempt_at"] < row["exited_at"]
    eventually(lambda: _known(sctr, "k-runs").get("running"), what="a container that runs")
    row = _known(sctr, "k-runs")
    assert (row["policy"], row["restarts"], row["why"], row["exit_code"]) == ("always", 0, None, None)
    eventually(lambda: _known(sctr, "k-no").get("why") == "is left alone: its policy is no", what="no")
    assert _known(sctr, "k-no")["exit_code"] == 3
    eventually(lambda: "must be one of" in (_known(sctr, "k-odd").get("why") or ""), what="the bad policy")
    assert not _known(sctr, "k-other")
    table = {line.split()[0]: line for line in sctr.ok("restarts").splitlines()}
    assert " ".join(table["CONTAINER"].split()) == "CONTAINER WANTED POLICY RESTARTS LAST EXIT STATE"
    assert table["k-runs"].split() == ["k-runs", "running", "always", "0", "-", "running"]
    assert " ".join(table["k-no"].split()).endswith(" ago is left alone: its policy is no")
    # What changes is seen: it runs again, and then is to be stopped.
    _ok(target, "containers", "label", "k-no", "containerd.io/restart.policy=always")
    eventually(lambda: _known(sctr, "k-no")["restarts"] > 0, what="a restart")
    assert _known(sctr, "k-no")["why"] is None
    _ok(target, "containers", "label", "k-runs", "containerd.io/restart.status=stopped")
    eventually(lambda: not _known(sctr, "k-runs")["running"], what="the end")
    row = _known(sctr, "k-runs")
    assert (row["wanted"], row["why"]) == ("stopped", None)
    sctr.ok("rm", "-f", "k-no")
    assert not _known(sctr, "k-no")


def test_a_container_that_is_removed_while_it_is_restarted(daemon: tuple[Target, Sctr]) -> None:
    """Whatever the monitor was at, nothing of it stays."""
    target, sctr = daemon
    for number in range(8):
        name = f"gone-{number}"
        sctr.ok("run", "-d", "--name", name, *RUNNING, TAG, "sh", "-c", "exit 3")
        eventually(lambda name=name: _known(sctr, name).get("restarts", 0) > 0, what="a restart")
        sctr.run("rm", "-f", name)
    eventually(lambda: "gone-" not in sctr.ok("ps", "-aq"), what="the end of the containers")
    eventually(lambda: not any("gone-" in left for left in target.leftovers()), what="the end of their tasks")


def test_when_the_next_attempt_is(image_tar: Path, tmp_path: Path) -> None:
    """One waits for its turn, one fails to start and says why, one is given up."""
    with a_daemon(image_tar, "start_limit = 2\nhealthy = 100.0\njitter = 0.0\n") as (target, sctr):
        broken = ("--label", "containerd.io/restart.loguri=binary:///no/such/logger")
        sctr.ok("run", "-d", "--name", "broken", *RUNNING, *broken, TAG, "true")
        eventually(lambda: "is given up after 2" in (_known(sctr, "broken").get("why") or ""), what="the end")
        assert _known(sctr, "broken")["attempts_in_a_row"] == 2
        assert "could not be restarted: " in target.news()
    slow = "backoff = 1000.0\nbackoff_limit = 1000.0\ninterval = 1.0\njitter = 0.0\n"
    with a_daemon(image_tar, settings=slow) as (target, sctr):
        sctr.ok("run", "-d", "--name", "waits", *RUNNING, TAG, "true")
        eventually(lambda: _known(sctr, "waits").get("next_attempt_at"), what="the next attempt")
        row = _known(sctr, "waits")
        ended, due = parse_rfc3339(row["exited_at"]), parse_rfc3339(row["next_attempt_at"])
        assert (due - ended, row["why"]) == (1000 * SECOND, None)
        assert "next attempt in 9" in sctr.ok("restarts")
        # What was a reason once is none any more.
        sctr.ok("run", "-d", "--name", "held", *RUNNING, *policy("no"), TAG, "true")
        eventually(lambda: _known(sctr, "held").get("why"), what="the reason")
        _ok(target, "containers", "label", "held", "containerd.io/restart.policy=always")
        eventually(lambda: _known(sctr, "held")["next_attempt_at"], what="the next attempt")
        assert _known(sctr, "held")["why"] is None


def test_why_an_attempt_failed_is_known_until_the_next(image_tar: Path) -> None:
    settings = "backoff = 0.05\nbackoff_limit = 1000.0\ninterval = 0.5\n"
    with a_daemon(image_tar, settings=settings) as (target, sctr):
        broken = ("--label", "containerd.io/restart.loguri=binary:///no/such/logger")
        sctr.ok("run", "-d", "--name", "broken", *RUNNING, *broken, TAG, "true")
        eventually(lambda: _known(sctr, "broken").get("attempts_in_a_row", 0) >= 4, what="attempts")
        eventually(lambda: "/no/such/logger" in (_known(sctr, "broken")["why"] or ""), what="the cause")
        assert _known(sctr, "broken")["next_attempt_at"]
        # Said once, though it is tried again and again.
        assert target.news().count("could not be restarted") == 1


def test_a_daemon_that_restarts_nothing_says_so(image_tar: Path) -> None:
    with a_daemon(image_tar, settings="enabled = false\n") as (_, sctr):
        assert "restarts nothing: enabled is false in [restart]" in sctr.fails("restarts")
