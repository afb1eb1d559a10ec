"""Compose: several containers, brought up and down as one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docker.conftest import IMAGE
from tests.docker.docker import Docker

PROJECT = f"""\
version: "3"
services:
  server:
    image: {IMAGE}
    command: httpd -f -p 80 -h /etc
    restart: always
  client:
    image: {IMAGE}
    depends_on: [server]
    command: sh -c "until wget -qO- http://server/changed; do sleep 0.05; done; sleep 1000"
"""


def compose(docker: Docker, folder: Path, *words: str) -> str:
    """Run Debian's compose on the project in a folder; what it prints, of both kinds."""
    command = [shutil.which("docker-compose") or "", "--project-name=pair", *words]
    environment = os.environ | {
        "DOCKER_HOST": f"unix://{docker.socket}",
        "DOCKER_CONFIG": str(docker.settings),
    }
    answer = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert answer.returncode == 0, f"{words}: {answer.returncode}: {answer.stderr}{answer.stdout}"
    return answer.stdout + answer.stderr


@pytest.mark.skipif(
    not shutil.which("docker-compose"), reason="no compose here: apt-get install docker-compose"
)
def test_up_and_down(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(PROJECT)
    compose(docker, tmp_path, "up", "-d")
    names = docker.running_names()
    assert len(names) == 2
    client = next(name for name in names if "client" in name)
    docker.await_log(client, "above")
    assert "above" in compose(docker, tmp_path, "logs", "client")
    compose(docker, tmp_path, "down", "-t", "1")
    assert docker.out("ps", "--all", "--quiet") == ""
