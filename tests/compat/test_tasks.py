"""`ctr tasks` and `ctr containers`: the life of a container in single steps."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.ctr import Ctr, eventually
from tests.compat.terminal import terminal


@pytest.fixture
def sleeper(ctr: Ctr, image: str) -> Iterator[str]:
    """A running container; its name."""
    ctr.run("run", "-d", image, "sleeper", "sleep", "1000")
    yield "sleeper"
    ctr.remove("sleeper")


def test_create_start_kill_remove(ctr: Ctr, image: str) -> None:
    ctr.run("containers", "create", image, "c", "sleep", "1000")
    assert ctr.table("containers", "ls") == [["c", image, "io.containerd.runc.v2"]]
    assert ctr.table("tasks", "ls") == []
    ctr.run("tasks", "start", "-d", "c")
    assert ctr.status("c") == "RUNNING"
    ctr.run("tasks", "kill", "--signal", "KILL", "c")
    eventually(lambda: ctr.status("c") == "STOPPED")
    ctr.run("tasks", "rm", "c")
    assert ctr.table("tasks", "ls") == []
    ctr.run("containers", "rm", "c")
    assert ctr.table("containers", "ls") == []
    assert "c" not in [row[0] for row in ctr.table("snapshots", "ls")]


def test_start_in_the_foreground_gives_output_and_status(ctr: Ctr, image: str) -> None:
    ctr.run("containers", "create", "--", image, "c", "sh", "-c", "echo once; exit 4")
    answer = ctr.run("tasks", "start", "c", check=False)
    assert (answer.returncode, answer.stdout) == (4, "once\n")
    ctr.run("containers", "rm", "c")


def test_a_container_can_be_started_again(ctr: Ctr, image: str) -> None:
    ctr.run("containers", "create", "--", image, "c", "sh", "-c", "echo x >>/count; cat /count")
    assert ctr.out("tasks", "start", "c") == "x\n"
    assert ctr.out("tasks", "start", "c") == "x\nx\n"
    ctr.run("containers", "rm", "c")


def test_info_shows_the_spec(ctr: Ctr, sleeper: str, image: str) -> None:
    told = json.loads(ctr.out("containers", "info", sleeper))
    assert (told["ID"], told["Image"], told["Snapshotter"]) == (sleeper, image, "overlayfs")
    assert told["Runtime"]["Name"] == "io.containerd.runc.v2"
    assert told["Spec"]["process"]["args"] == ["sleep", "1000"]
    assert ctr.out("containers", "info", "--spec", sleeper)


def test_labels(ctr: Ctr, sleeper: str) -> None:
    ctr.run("containers", "label", sleeper, "colour=blue")
    assert ctr.out("containers", "ls", "-q", "labels.colour==blue").split() == [sleeper]
    assert json.loads(ctr.out("containers", "info", sleeper))["Labels"]["colour"] == "blue"
    ctr.run("containers", "label", sleeper, "colour=")
    assert ctr.out("containers", "ls", "-q", "labels.colour==blue").split() == []


def test_exec_gives_output_and_status(ctr: Ctr, sleeper: str) -> None:
    script = "echo in; echo err >&2; exit 6"
    told = ctr.run("tasks", "exec", "--exec-id", "one", sleeper, "sh", "-c", script, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (6, "in\n", "err\n")


def test_exec_reads_stdin(ctr: Ctr, sleeper: str) -> None:
    words = ("tasks", "exec", "--exec-id", "one", sleeper, "sh", "-c", "echo ready; cat")
    with ctr.running(*words, stdin=-1) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        run.stdin.write(b"hello\n")
        run.stdin.close()
        assert run.stdout.read() == b"hello\n"
        assert run.wait(timeout=30) == 0


def test_exec_on_a_terminal(ctr: Ctr, sleeper: str) -> None:
    with terminal(ctr.command("tasks", "exec", "-t", "--exec-id", "one", sleeper, "sh"), 30, 90) as screen:
        screen.expect("# ")
        screen.type("stty size; exit 2\n")
        screen.expect("30 90\r")
        assert screen.wait() == 2


def test_exec_runs_as_a_user_in_a_folder(ctr: Ctr, sleeper: str) -> None:
    words = ("tasks", "exec", "--exec-id", "one", "--user", "1000", "--cwd", "/tmp")
    told = ctr.out(*words, sleeper, "sh", "-c", "id -u; pwd")
    assert told.split() == ["1000", "/tmp"]


def test_exec_of_what_is_not_there(ctr: Ctr, sleeper: str) -> None:
    assert "no such file" in ctr.fails("tasks", "exec", "--exec-id", "one", sleeper, "/no/such/program")
    assert ctr.status(sleeper) == "RUNNING"
    assert ctr.out("tasks", "exec", "--exec-id", "one", sleeper, "echo", "again") == "again\n"


def test_exec_id_in_use(ctr: Ctr, sleeper: str) -> None:
    ctr.run("tasks", "exec", "-d", "--exec-id", "one", sleeper, "sleep", "1000")
    assert "already exists" in ctr.fails("tasks", "exec", "--exec-id", "one", sleeper, "true")
    ctr.run("tasks", "kill", "--signal", "KILL", "--exec-id", "one", sleeper)


def test_processes_name_the_execs(ctr: Ctr, sleeper: str) -> None:
    ctr.run("tasks", "exec", "-d", "--exec-id", "one", sleeper, "sleep", "2000")
    rows = ctr.table("tasks", "ps", sleeper)
    assert [int(row[0]) for row in rows if row[1] == "-"] == [ctr.pid(sleeper)]
    (pid,) = [row[0] for row in rows if row[1] != "-"]
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x002000\x00"
    ctr.run("tasks", "kill", "--signal", "KILL", "--exec-id", "one", sleeper)
    eventually(lambda: len(ctr.table("tasks", "ps", sleeper)) == 1)
    assert ctr.run("tasks", "rm", "--exec-id", "one", sleeper, check=False).returncode == 137


def test_signal_reaches_the_program(ctr: Ctr, image: str) -> None:
    script = "trap 'echo told; exit 9' USR1; echo ready; while :; do sleep 0.1; done"
    with ctr.running("run", "--rm", image, "c", "sh", "-c", script) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        ctr.run("tasks", "kill", "--signal", "SIGUSR1", "c")
        assert run.stdout.readline() == b"told\n"
        assert run.wait(timeout=30) == 9


def test_kill_all_ends_the_children(ctr: Ctr, image: str) -> None:
    ctr.run("run", "-d", image, "c", "sh", "-c", "sleep 1000 & sleep 1000 & wait")
    eventually(lambda: len(ctr.table("tasks", "ps", "c")) == 3)
    pids = [row[0] for row in ctr.table("tasks", "ps", "c")]
    ctr.run("tasks", "kill", "--all", "--signal", "KILL", "c")
    eventually(lambda: ctr.status("c") == "STOPPED")
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    ctr.remove("c")


def ticks(pid: int) -> int:
    """Processor time that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def test_pause_and_resume(ctr: Ctr, image: str) -> None:
    ctr.run("run", "-d", image, "c", "sh", "-c", "while :; do :; done")
    pid = ctr.pid("c")
    ctr.run("tasks", "pause", "c")
    assert ctr.status("c") == "PAUSED"
    used = ticks(pid)
    assert [ticks(pid) for _ in range(1000)] == [used] * 1000
    ctr.run("tasks", "resume", "c")
    assert ctr.status("c") == "RUNNING"
    eventually(lambda: ticks(pid) > used)
    ctr.remove("c")


def test_attach_takes_over_a_detached_task(ctr: Ctr, image: str) -> None:
    script = "trap 'exit 8' TERM; while :; do echo tick; sleep 0.1; done"
    ctr.run("run", "-d", image, "c", "sh", "-c", script)
    with ctr.running("tasks", "attach", "c") as attach:
        assert attach.stdout is not None
        assert [attach.stdout.readline() for _ in range(3)] == [b"tick\n"] * 3
        ctr.run("tasks", "kill", "c")
        assert attach.wait(timeout=30) == 8
    ctr.remove("c")


def test_a_running_task_is_not_removed(ctr: Ctr, sleeper: str) -> None:
    assert "failed precondition" in ctr.fails("tasks", "rm", sleeper)
    assert "cannot delete a non stopped container" in ctr.fails("containers", "rm", sleeper)
    assert ctr.status(sleeper) == "RUNNING"


def test_a_running_task_is_removed_by_force(ctr: Ctr, image: str) -> None:
    ctr.run("run", "-d", image, "c", "sleep", "1000")
    pid = ctr.pid("c")
    ctr.run("tasks", "rm", "--force", "c")
    assert not Path(f"/proc/{pid}").exists()
    ctr.run("containers", "rm", "c")


def test_removing_twice(ctr: Ctr, image: str) -> None:
    ctr.run("containers", "create", image, "c", "true")
    ctr.run("containers", "rm", "c")
    assert "not found" in ctr.fails("containers", "rm", "c")
    assert "not found" in ctr.fails("tasks", "rm", "c")


def test_kill_of_a_stopped_task(ctr: Ctr, image: str) -> None:
    ctr.run("run", "-d", image, "c", "true")
    eventually(lambda: ctr.status("c") == "STOPPED")
    assert "not found" in ctr.fails("tasks", "kill", "c")
    ctr.remove("c")


def test_one_task_at_a_time(ctr: Ctr, sleeper: str) -> None:
    assert "already exists" in ctr.fails("tasks", "start", "-d", sleeper)
    assert ctr.status(sleeper) == "RUNNING"


def test_metrics(ctr: Ctr, sleeper: str) -> None:
    figures = json.loads(ctr.out("tasks", "metrics", "--format", "json", sleeper))
    assert figures["pids"]["current"] == 1


def test_ids_as_long_as_they_may_be(ctr: Ctr, image: str) -> None:
    name = "n" * 76
    assert ctr.out("run", "--rm", image, name, "echo", "long") == "long\n"


def test_processes_of_the_container_cannot_reach_the_daemon(ctr: Ctr, sleeper: str) -> None:
    open_files = Path(f"/proc/{ctr.pid(sleeper)}/fd")
    assert not [link for fd in open_files.iterdir() if (link := os.readlink(fd)).startswith("socket:")]
