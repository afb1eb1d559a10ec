"""Networks: published ports, names, containers that share one."""

from __future__ import annotations

import pytest

from tests.docker.conftest import IMAGE
from tests.docker.docker import Docker
from tests.docker.engine import Engine

SERVE = ("httpd", "-f", "-p", "80", "-h", "/etc")
SERVED = "above\n"


def test_a_port_is_published(engine: Engine, docker: Docker) -> None:
    docker.detached("--name=box", "--publish=18080:80", IMAGE, *SERVE)
    address = docker.inspect("box", "NetworkSettings.IPAddress")
    assert engine.world.out("busybox", "wget", "-qO-", f"http://{address}/changed") == SERVED
    assert engine.world.out("busybox", "wget", "-qO-", "http://127.0.0.1:18080/changed") == SERVED
    docker.run("stop", "--time=0", "box")
    with pytest.raises(AssertionError, match="refused"):
        engine.world.out("busybox", "wget", "-qO-", "http://127.0.0.1:18080/changed")


def test_containers_find_each_other_by_name(docker: Docker) -> None:
    docker.run("network", "create", "ours")
    try:
        docker.detached("--name=server", "--network=ours", IMAGE, *SERVE)
        got = docker.out("run", "--rm", "--network=ours", IMAGE, "wget", "-qO-", "http://server/changed")
        assert got == SERVED
        docker.run("rm", "--force", "server")
    finally:
        docker.run("network", "rm", "ours")


def test_a_network_is_joined_while_a_container_runs(docker: Docker) -> None:
    docker.run("network", "create", "--subnet=10.99.0.0/24", "later")
    try:
        docker.detached("--name=box", IMAGE, "sleep", "1000")
        docker.run("network", "connect", "later", "box")
        assert "10.99.0." in docker.out("exec", "box", "ip", "addr")
        docker.run("network", "disconnect", "later", "box")
        assert "10.99.0." not in docker.out("exec", "box", "ip", "addr")
    finally:
        docker.run("rm", "--force", "box")
        docker.run("network", "rm", "later")


def test_kinds_of_networks(engine: Engine, docker: Docker) -> None:
    docker.detached("--name=server", IMAGE, *SERVE)
    shared = ("--network=container:server", IMAGE, "wget", "-qO-", "http://127.0.0.1/changed")
    assert docker.out("run", "--rm", *shared) == SERVED
    names = "ls /sys/class/net"
    assert docker.out("run", "--rm", "--network=none", IMAGE, "sh", "-c", names).split() == ["lo"]
    host = docker.out("run", "--rm", "--network=host", IMAGE, "ip", "-o", "link")
    assert host.count("\n") == engine.world.out("ip", "-o", "link").count("\n")
    assert "docker0" in host
