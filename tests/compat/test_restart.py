"""The daemon is killed, at any moment, and started again: containers do not notice, nothing is lost."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.types.task.task_pb2 import Status
from tests.compat.api import connected
from tests.compat.conftest import clean_up, eventually_clean, left_in
from tests.compat.ctr import Ctr, eventually
from tests.compat.target import CONTAINERD, Target

pytestmark = pytest.mark.timeout(300)
leaks = pytest.mark.skipif(
    CONTAINERD, reason="containerd leaves shims and bundles when killed at some moments"
)

COUNTING = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.01; done"
MOMENTS = [milliseconds / 1000 for milliseconds in (0, 5, 10, 20, 30, 45, 60, 80, 100, 130, 160, 200, 300)]


def process(ctr: Ctr, container: str) -> Any:
    """A task as the API shows it."""
    with connected(ctr.address, ctr.namespace) as api:
        return api.call(api.tasks.Get, pb.GetRequest(container_id=container)).process


def started_at(pid: int) -> str:
    """When a process was started, in ticks: what tells it from a later one of the same pid."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def is_gone(pid: int) -> bool:
    """Whether a process has ended and was reaped."""
    return not Path(f"/proc/{pid}").exists()


def test_a_running_container_goes_on(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    own_ctr.run("run", "-d", own_image, "c", "sleep", "1000")
    before = (own_ctr.pid("c"), started_at(own_ctr.pid("c")))
    for _ in range(3):
        own_target.kill()
        own_target.start()
        assert own_ctr.status("c") == "RUNNING"
        assert (own_ctr.pid("c"), started_at(own_ctr.pid("c"))) == before
    assert own_ctr.out("tasks", "exec", "--exec-id", "one", "c", "echo", "in") == "in\n"
    own_ctr.remove("c")


def test_a_running_container_goes_on_over_a_graceful_stop(
    own_target: Target, own_ctr: Ctr, own_image: str
) -> None:
    own_ctr.run("run", "-d", own_image, "c", "sleep", "1000")
    pid = own_ctr.pid("c")
    assert own_target.stop() == 0
    assert not is_gone(pid)
    own_target.start()
    assert (own_ctr.status("c"), own_ctr.pid("c")) == ("RUNNING", pid)
    own_ctr.remove("c")


def test_output_to_a_log_has_no_gap(own_target: Target, own_ctr: Ctr, own_image: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    own_ctr.run("run", "-d", "--log-uri", f"file://{log}", own_image, "c", "sh", "-c", COUNTING)
    own_target.kill()
    size = log.stat().st_size
    eventually(lambda: log.stat().st_size > size + 100, what="output while no daemon runs")
    own_target.start()
    size = log.stat().st_size
    eventually(lambda: log.stat().st_size > size + 100, what="output afterwards")
    own_ctr.remove("c")
    lines = log.read_text().split()
    assert lines == [str(number) for number in range(1, len(lines) + 1)]


def test_output_to_a_client_has_no_gap(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    own_ctr.run("run", "-d", own_image, "c", "sh", "-c", "read go; " + COUNTING)
    own_target.kill()
    own_target.start()
    with own_ctr.running("tasks", "attach", "c", stdin=-1) as attach:
        assert attach.stdin is not None
        assert attach.stdout is not None
        attach.stdin.write(b"go\n")
        attach.stdin.flush()
        seen = [attach.stdout.readline() for _ in range(20)]
        own_target.kill()
        seen += [attach.stdout.readline() for _ in range(20)]
        own_target.start()
        own_ctr.run("tasks", "kill", "--signal", "KILL", "c")
    assert [line for line in seen if line] == [b"%d\n" % n for n in range(1, len([x for x in seen if x]) + 1)]
    own_ctr.remove("c")


def test_an_exit_meanwhile_is_there_with_code_and_time(
    own_target: Target, own_ctr: Ctr, own_image: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    script = "while [ ! -e /end ]; do sleep 0.05; done; echo last words; exit 7"
    own_ctr.run("run", "-d", "--log-uri", f"file://{log}", own_image, "c", "sh", "-c", script)
    pid = own_ctr.pid("c")
    own_target.kill()
    before = time.time()
    Path(f"/proc/{pid}/root/end").touch()
    eventually(lambda: is_gone(pid), what="the end of the container")
    after = time.time()
    own_target.start()
    assert own_ctr.status("c") == "STOPPED"
    found = process(own_ctr, "c")
    assert (found.status, found.exit_status, found.pid) == (Status.STOPPED, 7, pid)
    assert before - 1 < found.exited_at.ToNanoseconds() / 1e9 < after + 1
    assert log.read_text() == "last words\n"
    with connected(own_ctr.address, own_ctr.namespace) as api:
        assert api.call(api.tasks.Wait, pb.WaitRequest(container_id="c")).exit_status == 7
        assert api.call(api.tasks.Delete, pb.DeleteTaskRequest(container_id="c")).exit_status == 7
    own_ctr.run("containers", "rm", "c")


def test_a_stopped_task_stays_stopped(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    own_ctr.run("run", "-d", own_image, "c", "sh", "-c", "exit 5")
    eventually(lambda: own_ctr.status("c") == "STOPPED")
    before = process(own_ctr, "c")
    own_target.kill()
    own_target.start()
    after = process(own_ctr, "c")
    assert (after.status, after.exit_status, after.exited_at) == (Status.STOPPED, 5, before.exited_at)
    own_ctr.remove("c")


def test_execs_go_on(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    own_ctr.run("run", "-d", own_image, "c", "sleep", "1000")
    own_ctr.run("tasks", "exec", "-d", "--exec-id", "one", "c", "sleep", "2000")
    before = own_ctr.table("tasks", "ps", "c")
    own_target.kill()
    own_target.start()
    assert own_ctr.table("tasks", "ps", "c") == before
    own_ctr.run("tasks", "kill", "--signal", "KILL", "--exec-id", "one", "c")
    eventually(lambda: len(own_ctr.table("tasks", "ps", "c")) == 1)
    own_ctr.remove("c")


def test_a_paused_container_stays_paused(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    own_ctr.run("run", "-d", own_image, "c", "sleep", "1000")
    own_ctr.run("tasks", "pause", "c")
    own_target.kill()
    own_target.start()
    assert own_ctr.status("c") == "PAUSED"
    own_ctr.run("tasks", "resume", "c")
    assert own_ctr.status("c") == "RUNNING"
    own_ctr.remove("c")


def test_many_containers_go_on(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    names = [f"c{number}" for number in range(10)]
    for name in names:
        own_ctr.run("run", "-d", own_image, name, "sleep", "1000")
    before = sorted(own_ctr.table("tasks", "ls"))
    own_target.kill()
    own_target.start()
    assert sorted(own_ctr.table("tasks", "ls")) == before
    for name in names:
        own_ctr.remove(name)


def killed_at(target: Target, command: list[str], moment: float) -> None:
    """Run a client and kill the daemon some time after the client began; then start it again."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as client:
        time.sleep(moment)  # which instant is hit is the point of the test, not a synchronization
        target.kill()
        try:
            client.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            client.kill()
    target.start()


def all_in_order(target: Target, ctr: Ctr) -> list[str]:
    """What does not add up between rows, files and processes; then everything is removed."""
    wrong = []
    for name, pid, status in ctr.table("tasks", "ls"):
        if status not in ("CREATED", "RUNNING", "STOPPED"):
            wrong.append(f"{name} is {status}")
        if status in ("CREATED", "RUNNING") and not Path(f"/proc/{pid}").exists():
            wrong.append(f"{name} is {status} but its process {pid} is not there")
    clean_up(ctr)
    return wrong + left_in(ctr) + eventually_clean(target, ctr.namespace)


@pytest.mark.slow
@leaks
def test_killed_while_a_container_is_started(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    for moment in MOMENTS:
        killed_at(own_target, own_ctr.command("run", "-d", own_image, "c", "sleep", "1000"), moment)
        assert not all_in_order(own_target, own_ctr), f"killed after {moment} s"
        own_ctr.run("snapshots", "rm", "c", check=False)
        assert own_ctr.out("run", "--rm", own_image, "c", "echo", "again") == "again\n"


@pytest.mark.slow
@leaks
def test_killed_while_a_container_runs_and_ends(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    for moment in MOMENTS:
        killed_at(own_target, own_ctr.command("run", "--rm", own_image, "c", "sh", "-c", "exit 3"), moment)
        assert not all_in_order(own_target, own_ctr), f"killed after {moment} s"
        own_ctr.run("snapshots", "rm", "c", check=False)


@pytest.mark.slow
def test_killed_while_a_task_is_removed(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    for moment in MOMENTS:
        own_ctr.run("run", "-d", own_image, "c", "sleep", "1000")
        killed_at(own_target, own_ctr.command("tasks", "rm", "--force", "c"), moment)
        assert not all_in_order(own_target, own_ctr), f"killed after {moment} s"


@pytest.mark.slow
def test_killed_while_an_image_is_imported(own_target: Target, own_ctr: Ctr, image_tar: Path) -> None:
    for moment in MOMENTS:
        killed_at(own_target, own_ctr.command("images", "import", str(image_tar)), moment)
        own_ctr.run("images", "import", str(image_tar))
        name = own_ctr.out("images", "check", "-q").strip()
        assert own_ctr.out("run", "--rm", name, "c", "cat", "/etc/changed") == "above\n"
        own_ctr.run("images", "rm", "--sync", name)


@pytest.mark.skipif(CONTAINERD, reason="containerd waits for the lock")
def test_two_daemons_do_not_share_a_root(own_target: Target) -> None:
    second = subprocess.run(own_target.command(), capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode != 0
    assert str(own_target.root) in second.stderr
    assert own_target.ctr("probe").run("version").returncode == 0
