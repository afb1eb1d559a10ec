"""What a container does for its user: runs, talks, listens, stops, and is started again."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from tests.compat.program import eventually
from tests.compat.terminal import Terminal, terminal
from tests.docker.conftest import IMAGE
from tests.docker.docker import Docker

UNTIL_GO = "while [ ! -e /go ]; do sleep 0.02; done"
TRAP = "trap 'echo got TERM; exit 0' TERM; echo ready; while :; do sleep 0.05; done"


def test_run_prints_and_ends_as_its_process(docker: Docker) -> None:
    answer = docker.run("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (7, "out\n", "err\n")
    assert docker.out("ps", "-aq") == ""


def test_run_passes_input(docker: Docker) -> None:
    text = "line\n" * 50_000
    assert docker.out("run", "--rm", "-i", IMAGE, "cat", stdin=text) == text


def test_run_on_a_terminal(docker: Docker) -> None:
    with terminal(docker.command("run", "--rm", "-it", IMAGE, "sh"), rows=40, columns=100) as screen:
        screen.expect("#")
        screen.type("stty size; tty\n")
        screen.expect("40 100")
        screen.expect("/dev/pts/0")
        screen.resize(50, 120)
        screen.expect("#")
        eventually(lambda: size_told(screen) == "50 120", what="the new size")
        screen.type("exit 4\n")
        assert screen.wait() == 4


def size_told(screen: Terminal) -> str:
    """The size that a process on the terminal sees."""
    screen.seen = ""
    screen.type("echo size=$(stty size)=\n")
    screen.expect("stty size)=")  # what was typed, as it is echoed
    screen.expect("size=")
    return screen.expect("=")[:-1]


def test_what_a_container_is_given(docker: Docker, tmp_path: Path) -> None:
    options = (
        "--env=COLOUR=blue",
        "--user=alice",
        "--workdir=/tmp",
        "--hostname=told",
        f"--volume={tmp_path}:/out",
    )
    tmp_path.chmod(0o777)
    docker.run(
        "run",
        "--rm",
        *options,
        IMAGE,
        "sh",
        "-c",
        "echo $COLOUR $(id -u):$(id -g) $PWD $(hostname) >/out/file",
    )
    assert (tmp_path / "file").read_text() == "blue 1000:1001 /tmp told\n"
    assert (tmp_path / "file").stat().st_uid == 1000


def test_a_volume_outlives_its_container(docker: Docker) -> None:
    docker.run("volume", "create", "kept")
    docker.run("run", "--rm", "-v", "kept:/data", IMAGE, "sh", "-c", "echo here >/data/file")
    assert docker.out("run", "--rm", "-v", "kept:/data", IMAGE, "cat", "/data/file") == "here\n"
    docker.run("volume", "rm", "kept")


def test_exec(docker: Docker) -> None:
    docker.detached("--name=box", "--env=COLOUR=blue", IMAGE, "sleep", "1000")
    answer = docker.run(
        "exec", "-u", "alice", "box", "sh", "-c", "echo $COLOUR $(id -u); echo e >&2; exit 3", check=False
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (3, "blue 1000\n", "e\n")
    assert (
        docker.out("exec", "-i", "box", "sh", "-c", "cat >/file; cat /file", stdin="by exec\n") == "by exec\n"
    )
    docker.run("exec", "-d", "box", "sh", "-c", "echo later >/later")
    eventually(lambda: docker.run("exec", "box", "cat", "/later", check=False).stdout == "later\n")
    missing = docker.run("exec", "box", "/no/such/file", check=False)
    assert missing.returncode in (126, 127)
    assert "no such file" in missing.stderr + missing.stdout


def test_exec_on_a_terminal(docker: Docker) -> None:
    docker.detached("--name=box", IMAGE, "sleep", "1000")
    with terminal(docker.command("exec", "-it", "box", "sh"), rows=31, columns=91) as screen:
        screen.expect("#")
        eventually(lambda: size_told(screen) == "31 91", what="the size")
        screen.type("exit 6\n")
        assert screen.wait() == 6


def test_attach(docker: Docker) -> None:
    echo = "while read x; do echo [$x]; [ $x = end ] && exit 9; done"
    docker.detached("--name=box", "-i", IMAGE, "sh", "-c", echo)
    with docker.running("attach", "box", stdin=subprocess.PIPE) as attached:
        assert attached.stdin
        assert attached.stdout
        for word in (b"one", b"two", b"end"):
            attached.stdin.write(word + b"\n")
            attached.stdin.flush()
            assert attached.stdout.readline() == b"[%s]\n" % word
        assert attached.wait(timeout=20) == 9
    assert docker.logged("box") == "[one]\n[two]\n[end]\n"


def test_attach_and_detach_on_a_terminal(docker: Docker) -> None:
    docker.detached("--name=box", "-it", IMAGE, "sh")
    for sum_ in ("42", "43"):
        with terminal(docker.command("attach", "box")) as screen:
            screen.type(f"echo $(({sum_} + 0))\n")
            screen.expect(f"\n{sum_}")
            screen.type("\x10\x11")
            screen.wait()
        assert docker.state("box") == "running"


def test_logs_are_followed_to_their_end(docker: Docker) -> None:
    count = "for n in $(seq 1 2000); do echo $n; echo e$n >&2; done"
    docker.detached("--name=box", IMAGE, "sh", "-c", f"{count}; {UNTIL_GO}; echo last")
    with docker.running("logs", "--follow", "box") as follower:
        docker.await_log("box", "2000")
        docker.run("exec", "box", "touch", "/go")
        out, err = follower.communicate(timeout=20)
    assert out.split() == [*(b"%d" % n for n in range(1, 2001)), b"last"]
    assert err.split() == [b"e%d" % n for n in range(1, 2001)]
    assert docker.run("logs", "--tail=1", "box").stdout == "last\n"


def test_stop_lets_a_container_end(docker: Docker) -> None:
    docker.detached("--name=box", IMAGE, "sh", "-c", TRAP)
    docker.await_log("box", "ready")
    docker.run("stop", "--time=20", "box")
    assert docker.inspect("box", "State.ExitCode") == 0
    assert docker.logged("box") == "ready\ngot TERM\n"


def test_stop_kills_what_does_not_end(docker: Docker) -> None:
    docker.detached("--name=box", IMAGE, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    docker.await_log("box", "ready")
    docker.run("stop", "--time=1", "box")
    assert docker.inspect("box", "State.ExitCode") == 128 + signal.SIGKILL


def test_kill_sends_the_signal(docker: Docker) -> None:
    docker.detached(
        "--name=box", IMAGE, "sh", "-c", "trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.05; done"
    )
    docker.await_log("box", "ready")
    docker.run("kill", "--signal=USR1", "box")
    docker.await_log("box", "got USR1")
    assert docker.state("box") == "running"
    docker.run("kill", "box")
    docker.await_state("box", "exited")
    assert docker.inspect("box", "State.ExitCode") == 128 + signal.SIGKILL


def test_restart(docker: Docker) -> None:
    docker.detached("--name=box", IMAGE, "sh", "-c", f"echo again >>/starts; {TRAP}")
    docker.await_log("box", "ready")
    before = docker.pid("box")
    docker.run("restart", "--time=20", "box")
    eventually(lambda: docker.logged("box").count("ready") == 2, what="the second start")
    assert docker.pid("box") not in (0, before)
    assert docker.out("exec", "box", "cat", "/starts") == "again\nagain\n"


def test_wait_tells_the_status(docker: Docker) -> None:
    docker.detached("--name=box", IMAGE, "sh", "-c", f"{UNTIL_GO}; exit 5")
    with docker.running("wait", "box") as waiter:
        docker.run("exec", "box", "touch", "/go")
        out, _ = waiter.communicate(timeout=20)
    assert out == b"5\n"


def test_restart_always(docker: Docker) -> None:
    docker.detached(
        "--name=box",
        "--restart=always",
        IMAGE,
        "sh",
        "-c",
        "echo start; [ -e /enough ] && sleep 1000; touch /enough",
    )
    eventually(lambda: docker.logged("box") == "start\nstart\n", what="the second start")
    docker.await_state("box", "running")
    assert docker.inspect("box", "RestartCount") == 1
    docker.run("stop", "--time=0", "box")
    assert docker.state("box") == "exited"


def test_restart_on_failure_gives_up(docker: Docker) -> None:
    docker.detached("--name=box", "--restart=on-failure:2", IMAGE, "sh", "-c", "echo start; exit 1")
    eventually(lambda: docker.logged("box") == "start\n" * 3, what="three starts")
    docker.await_state("box", "exited")
    assert docker.inspect("box", "State.ExitCode") == 1


def test_an_init_reaps(docker: Docker) -> None:
    docker.detached("--name=box", "--init", IMAGE, "sleep", "1000")
    assert "init" in docker.out("exec", "box", "cat", "/proc/1/cmdline")


def test_what_cannot_run_is_told(docker: Docker) -> None:
    answer = docker.run("run", "--name=box", IMAGE, "/no/such/program", check=False)
    assert answer.returncode == 127
    assert "/no/such/program" in answer.stderr
    assert docker.state("box") == "created"


def test_a_healthy_container_is_found_ill(docker: Docker) -> None:
    options = ("--health-cmd=test ! -e /ill", "--health-interval=0.2s", "--health-retries=1")
    docker.detached("--name=box", *options, IMAGE, "sleep", "1000")
    eventually(lambda: docker.inspect("box", "State.Health.Status") == "healthy")
    docker.run("exec", "box", "touch", "/ill")
    eventually(lambda: docker.inspect("box", "State.Health.Status") == "unhealthy")


def test_events(docker: Docker) -> None:
    since = str(time.time())
    docker.run("run", "--name=box", IMAGE, "sh", "-c", "exit 3", check=False)
    docker.run("rm", "box")
    told = docker.out(
        "events",
        f"--since={since}",
        f"--until={time.time()}",
        "--filter=type=container",
        "--format={{.Action}} {{.Actor.Attributes.exitCode}}",
    )
    actions = [line.split()[0] for line in told.splitlines()]
    assert [one for one in actions if one != "attach"] == ["create", "start", "die", "destroy"]
    assert "die 3" in told
