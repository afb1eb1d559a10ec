"""The supervisor is killed and replaced while dockerd and its containers run: these go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.compat.program import eventually
from tests.docker.conftest import IMAGE
from tests.docker.docker import Docker
from tests.docker.engine import Engine

COUNT = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.01; done"
UNTIL_GO = "while [ ! -e /go ]; do sleep 0.02; done"


@contextmanager
def supervisor_away(engine: Engine) -> Iterator[None]:
    """No supervisor meanwhile; afterwards one that dockerd has found."""
    engine.target.kill()
    try:
        yield
    finally:
        engine.target.start()
    eventually(lambda: carries_on(engine), what="dockerd to be back at its supervisor")


def carries_on(engine: Engine) -> bool:
    """Whether dockerd has subscribed anew: it does so after it has found its supervisor."""
    return engine.docker.run("run", "--rm", IMAGE, "true", check=False).returncode == 0


def go(pid: int) -> None:
    """Let a container's process find the file that it waits for, and wait until it has ended."""
    Path(f"/proc/{pid}/root/go").touch()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; as a zombie it has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def happened(docker: Docker, name: str) -> list[str]:
    """What `docker events` tells of one container: create, start, die and the like."""
    id_ = docker.inspect(name, "Id")  # others had the same name before
    bounds = ("--since=0", f"--until={time.time()}")
    lines = docker.out("events", *bounds, f"--filter=container={id_}", "--format={{json .}}")
    actions = [json.loads(line)["Action"] for line in lines.splitlines()]
    return [action for action in actions if not action.startswith(("exec_", "attach", "top", "resize"))]


def test_containers_and_their_logs_go_on(live_engine: Engine) -> None:
    docker = live_engine.docker
    docker.detached("--name=box", IMAGE, "sh", "-c", COUNT)
    docker.await_log("box", "20\n")
    before = docker.inspect("box", "State")
    with docker.running("logs", "--follow", "box") as follower:
        with supervisor_away(live_engine):
            eventually(lambda: len(docker.logged("box").split()) > 60, what="the container to count on")
        assert docker.inspect("box", "State") == before
        assert docker.out("exec", "box", "echo", "still here") == "still here\n"
        docker.run("kill", "box")
        followed, _ = follower.communicate(timeout=20)
    numbers = docker.logged("box").split()
    assert numbers == [str(n + 1) for n in range(len(numbers))]
    assert followed.decode().split() == numbers
    assert happened(docker, "box") == ["create", "start", "kill", "die"]
    docker.run("start", "box")
    assert docker.state("box") == "running"


def test_an_exit_meanwhile_is_seen(live_engine: Engine) -> None:
    docker = live_engine.docker
    docker.detached("--name=box", IMAGE, "sh", "-c", f"{UNTIL_GO}; echo bye; exit 7")
    pid = docker.pid("box")
    with docker.running("wait", "box") as waiter:
        with supervisor_away(live_engine):
            go(pid)
            eventually(lambda: is_gone(pid), what="the end of the container")
        out, _ = waiter.communicate(timeout=20)
    assert out == b"7\n"
    assert docker.running_names() == set()
    assert docker.inspect("box", "State.ExitCode") == 7
    assert docker.logged("box") == "bye\n"
    assert happened(docker, "box") == ["create", "start", "die"]


def test_a_want_of_memory_meanwhile_is_told(live_engine: Engine) -> None:
    docker = live_engine.docker
    hog = f"{UNTIL_GO}; x=$(yes | head -c 200m)"
    docker.detached("--name=box", "--memory=16m", IMAGE, "sh", "-c", hog)
    pid = docker.pid("box")
    with supervisor_away(live_engine):
        go(pid)
        eventually(lambda: is_gone(pid), what="the end of the container")
    docker.await_state("box", "exited")
    assert docker.inspect("box", "State.ExitCode") == 128 + signal.SIGKILL
    assert docker.inspect("box", "State.OOMKilled") is True


def test_what_ends_meanwhile_is_started_again_once(live_engine: Engine) -> None:
    docker = live_engine.docker
    docker.detached("--name=box", "--restart=always", IMAGE, "sleep", "1000")
    pid = docker.pid("box")
    with supervisor_away(live_engine):
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: is_gone(pid), what="the end of the container")
    eventually(lambda: docker.pid("box") not in (0, pid), what="the next start")
    assert docker.inspect("box", "RestartCount") == 1
    assert happened(docker, "box") == ["create", "start", "die", "start"]


def test_an_exec_goes_on_and_ends_meanwhile(live_engine: Engine) -> None:
    docker = live_engine.docker
    docker.detached("--name=box", IMAGE, "sleep", "1000")
    commands = [
        f"echo on; while [ ! -e /{name} ]; do sleep 0.02; done; echo {name}; exit 5"
        for name in ("meanwhile", "later")
    ]
    with (
        docker.running("exec", "box", "sh", "-c", commands[0]) as first,
        docker.running("exec", "box", "sh", "-c", commands[1]) as second,
    ):
        for session in (first, second):
            assert session.stdout
            assert session.stdout.readline() == b"on\n"
        root = Path(f"/proc/{docker.pid('box')}/root")
        with supervisor_away(live_engine):
            (root / "meanwhile").touch()
            assert first.stdout
            assert first.stdout.readline() == b"meanwhile\n"
        assert first.wait(timeout=20) == 5
        (root / "later").touch()
        assert ended(second) == (5, b"later\n")


def ended(session: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """The status and the last words of a client."""
    out, _ = session.communicate(timeout=20)
    return session.returncode, out


def test_a_paused_container_stays_so(live_engine: Engine) -> None:
    docker = live_engine.docker
    docker.detached("--name=box", IMAGE, "sleep", "1000")
    docker.run("pause", "box")
    with supervisor_away(live_engine):
        pass
    assert docker.state("box") == "paused"
    docker.run("unpause", "box")
    assert docker.out("exec", "box", "echo", "again") == "again\n"
