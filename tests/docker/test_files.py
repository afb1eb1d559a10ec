"""The files of a container: taken out, put in, compared, kept as an image."""

from __future__ import annotations

from pathlib import Path

from tests.docker.conftest import IMAGE
from tests.docker.docker import Docker

CHANGE = "echo new >/etc/new; rm /etc/added; echo more >>/etc/changed"


def test_cp(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(range(256)) * 1000)
    docker.detached("--name=box", IMAGE, "sleep", "1000")
    docker.run("cp", str(tmp_path / "in"), "box:/home/alice/in")
    docker.run("exec", "box", "sh", "-c", "cat /home/alice/in /home/alice/in >/home/alice/out")
    docker.run("cp", "box:/home/alice", str(tmp_path / "alice"))
    assert (tmp_path / "alice/out").read_bytes() == (tmp_path / "in").read_bytes() * 2
    docker.run("kill", "box")
    docker.run("cp", "box:/etc/changed", str(tmp_path / "changed"))
    assert (tmp_path / "changed").read_text() == "above\n"


def test_diff(docker: Docker) -> None:
    docker.run("run", "--name=box", IMAGE, "sh", "-c", CHANGE)
    assert set(docker.out("diff", "box").splitlines()) == {
        "C /etc",
        "A /etc/new",
        "D /etc/added",
        "C /etc/changed",
    }


def test_commit(docker: Docker) -> None:
    docker.run("run", "--name=box", IMAGE, "sh", "-c", CHANGE)
    docker.run("commit", '--change=CMD ["cat", "/etc/changed"]', "box", "committed:1")
    assert docker.out("run", "--rm", "committed:1") == "above\nmore\n"
    assert docker.run("run", "--rm", "committed:1", "cat", "/etc/added", check=False).returncode == 1
    docker.run("rmi", "committed:1")


def test_commit_of_a_running_container(docker: Docker) -> None:
    docker.detached("--name=box", IMAGE, "sh", "-c", "echo new >/etc/new; sleep 1000")
    docker.run("exec", "box", "sh", "-c", "until [ -s /etc/new ]; do sleep 0.02; done")
    docker.run("commit", "box", "committed:2")
    assert docker.out("run", "--rm", "committed:2", "cat", "/etc/new") == "new\n"
    assert docker.state("box") == "running"
    docker.run("rmi", "committed:2")


def test_export_and_import(docker: Docker, tmp_path: Path) -> None:
    docker.run("run", "--name=box", IMAGE, "sh", "-c", CHANGE)
    docker.run("export", "--output", str(tmp_path / "box.tar"), "box")
    docker.run("import", "--change=CMD cat /etc/new", str(tmp_path / "box.tar"), "imported:1")
    assert docker.out("run", "--rm", "imported:1") == "new\n"
    assert docker.out("run", "--rm", "imported:1", "cat", "/etc/changed") == "above\nmore\n"
    docker.run("rmi", "imported:1")
