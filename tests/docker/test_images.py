"""Images: loaded, saved, built, sent to a registry and fetched from it."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.program import eventually
from tests.docker.conftest import IMAGE
from tests.docker.docker import Docker
from tests.docker.engine import Engine
from tests.images import busybox_docker_tar, busybox_oci_tar

REGISTRY = "127.0.0.1:5000"
DOCKERFILE = f"""\
FROM {IMAGE} AS below
RUN echo made by the build >/made
FROM {IMAGE}
ARG COLOUR=none
ENV COLOUR=$COLOUR
COPY --from=below /made /made
COPY given /given
WORKDIR /home
USER alice
CMD cat /made /given; echo $COLOUR $(whoami) $PWD
"""
BUILT = "made by the build\ngiven by the context\nblue alice /home\n"


def test_load_and_save(docker: Docker, tmp_path: Path) -> None:
    archive = busybox_docker_tar(tmp_path / "in.tar", tag="loaded:1", config={"Cmd": ["cat", "/etc/added"]})
    assert "loaded:1" in docker.out("load", "--input", str(archive))
    docker.run("save", "--output", str(tmp_path / "out.tar"), "loaded:1")
    docker.run("rmi", "loaded:1")
    assert docker.run("run", "--pull=never", "--rm", "loaded:1", check=False).returncode == 125
    docker.run("load", "--input", str(tmp_path / "out.tar"))
    assert docker.out("run", "--rm", "loaded:1") == "added\n"
    docker.run("rmi", "loaded:1")


@pytest.fixture
def context(tmp_path: Path) -> str:
    """What a build is given."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "given").write_text("given by the context\n")
    return str(tmp_path)


def test_what_docker_has_built_and_saved_is_imported(
    engine: Engine, docker: Docker, context: str, tmp_path: Path
) -> None:
    """Of several layers, into a namespace that Docker does not know."""
    archive, reference = tmp_path / "built.tar", "docker.io/library/built:2"
    docker.run("build", "--tag=built:2", context, env={"PATH": "/usr/bin:/bin"})
    docker.run("save", "--output", str(archive), "built:2")
    docker.run("rmi", "built:2")
    namespace = f"saved-{uuid.uuid4().hex[:8]}"
    engine.target.namespaces.append(namespace)
    ctr = engine.target.ctr(namespace)
    ctr.run("images", "import", str(archive))
    made = ctr.out("run", "--rm", reference, "box", "cat", "/made", "/given")
    assert made == "made by the build\ngiven by the context\n"
    ctr.run("images", "rm", "--sync", reference)
    eventually(lambda: not engine.target.leftovers(namespace), what="an end without leftovers")


@pytest.mark.parametrize("builder", ["classic", "buildkit"])
def test_build(docker: Docker, context: str, builder: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "DOCKER_BUILDKIT": "1" if builder == "buildkit" else "0"}
    arguments = ("--no-cache", "--build-arg=COLOUR=blue", "--tag=built:1", context)
    docker.run("build", *arguments, env=environment)
    assert docker.out("run", "--rm", "built:1") == BUILT
    docker.run("rmi", "built:1")


def test_a_build_that_fails(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo so far; exit 9\n")
    answer = docker.run("build", str(tmp_path), check=False)
    assert answer.returncode != 0
    assert "9" in answer.stderr


@pytest.fixture
def registry(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """A registry on the loopback interface of the engine's world."""
    if not shutil.which("docker-registry"):
        pytest.skip("no registry here: apt-get install docker-registry")
    settings = tmp_path / "registry.yml"
    settings.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        f"http: {{addr: '{REGISTRY}'}}\nlog: {{level: warn}}\n"
    )
    command = [*engine.world.within, "docker-registry", "serve", str(settings)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _serves(engine), what="the registry to answer")
            yield REGISTRY
        finally:
            process.terminate()


def _serves(engine: Engine) -> bool:
    probe = [*engine.world.within, "busybox", "wget", "-qO", "/dev/null", f"http://{REGISTRY}/v2/"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def test_push_and_pull(docker: Docker, registry: str, tmp_path: Path) -> None:
    name = f"{registry}/some/image:1"
    docker.run("run", "--name=box", IMAGE, "sh", "-c", "echo pushed >/pushed")
    docker.run("commit", "box", name)
    docker.run("push", name)
    before = docker.out("inspect", '--format={{join .RepoDigests " "}}', name)
    docker.run("rmi", name)
    docker.run("pull", name)
    assert docker.out("inspect", '--format={{join .RepoDigests " "}}', name) == before
    assert docker.out("run", "--rm", name, "cat", "/pushed") == "pushed\n"
    docker.run("rmi", name)
    assert "not found" in docker.fails("pull", f"{registry}/some/other:1").lower()


def test_an_oci_archive(docker: Docker, store: str, tmp_path: Path) -> None:
    if store != "containerd":
        pytest.skip("dockerd's own drivers load archives of `docker save` only")
    archive = busybox_oci_tar(tmp_path / "oci.tar", compression="zstd", tag="docker.io/library/oci:1")
    docker.run("load", "--input", str(archive))
    assert docker.out("run", "--rm", "oci:1", "cat", "/etc/added") == "added\n"
    docker.run("rmi", "oci:1")
