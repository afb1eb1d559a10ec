"""What a container may use, and what it is said to use."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.compat.program import eventually
from tests.compat.target import CGROUPS
from tests.docker.conftest import IMAGE
from tests.docker.docker import Docker
from tests.docker.engine import Engine

MEBIBYTE = 1 << 20
COUNT = "i=0; while :; do i=$((i+1)); echo $i >/count.new; mv /count.new /count; done"
HOG = "x=$(yes | head -c 200m)"


def setting(engine: Engine, docker: Docker, name: str, v1: str, v2: str) -> int:
    """A number in the control group of a container, from the file that it is in on this machine."""
    id_ = str(docker.inspect(name, "Id"))
    if (CGROUPS / "cgroup.controllers").exists():
        return int((CGROUPS / engine.cgroup / id_ / v2).read_text().split()[0])
    return int((CGROUPS / v1.partition(".")[0] / engine.cgroup / id_ / v1).read_text())


def test_pause(docker: Docker) -> None:
    docker.detached("--name=box", IMAGE, "sh", "-c", COUNT)
    root = Path(f"/proc/{docker.pid('box')}/root")
    count = root / "count"
    eventually(count.exists, what="the container to count")
    docker.run("pause", "box")
    assert docker.state("box") == "paused"
    before = count.read_text()
    assert "paused" in docker.fails("exec", "box", "true")
    assert count.read_text() == before
    docker.run("unpause", "box")
    eventually(lambda: count.exists() and count.read_text() != before, what="the container to count on")


def test_top(docker: Docker) -> None:
    docker.detached("--name=box", IMAGE, "sh", "-c", "sleep 1234 & sleep 2345")
    eventually(lambda: "sleep 1234" in docker.out("top", "box") and "sleep 2345" in docker.out("top", "box"))
    assert str(docker.pid("box")) in docker.out("top", "box", "-o", "pid,args")


def test_stats(docker: Docker) -> None:
    docker.detached("--name=box", "--memory=64m", "--tmpfs=/fill", IMAGE, "sleep", "1000")
    docker.run("exec", "box", "dd", "if=/dev/zero", "of=/fill/20m", "bs=1M", "count=20")
    told = json.loads(docker.out("stats", "--no-stream", "--format={{json .}}", "box"))
    used, limit = told["MemUsage"].split(" / ")
    assert limit == "64MiB"
    assert used.endswith("MiB")
    assert 19 < float(used.removesuffix("MiB")) < 40
    assert int(told["PIDs"]) == 1


def test_limits(engine: Engine, docker: Docker) -> None:
    docker.detached("--name=box", "--memory=64m", "--pids-limit=20", "--cpus=0.5", IMAGE, "sleep", "1000")
    assert setting(engine, docker, "box", "memory.limit_in_bytes", "memory.max") == 64 * MEBIBYTE
    assert setting(engine, docker, "box", "pids.max", "pids.max") == 20
    assert setting(engine, docker, "box", "cpu.cfs_quota_us", "cpu.max") == 50_000


def test_update_memory(engine: Engine, docker: Docker) -> None:
    docker.detached("--name=box", "--memory=64m", IMAGE, "sleep", "1000")
    docker.run("update", "--memory=96m", "--memory-swap=200m", "box")
    assert setting(engine, docker, "box", "memory.limit_in_bytes", "memory.max") == 96 * MEBIBYTE
    assert docker.inspect("box", "HostConfig.Memory") == 96 * MEBIBYTE


def test_want_of_memory_is_told(docker: Docker) -> None:
    docker.run("run", "--name=box", "--memory=16m", IMAGE, "sh", "-c", HOG, check=False)
    assert docker.inspect("box", "State.OOMKilled") is True
    assert docker.inspect("box", "State.ExitCode") == 128 + signal.SIGKILL


@pytest.mark.parametrize("mode", ["private", "host"])
def test_namespaces(docker: Docker, mode: str) -> None:
    told = docker.out(
        "run", "--rm", f"--pid={'' if mode == 'private' else 'host'}", IMAGE, "sh", "-c", "echo $$"
    )
    assert (told == "1\n") == (mode == "private")
