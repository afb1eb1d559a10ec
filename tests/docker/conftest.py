"""Fixtures of the Docker suite: engines, an image, a client whose containers are removed after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.program import eventually
from tests.docker.docker import Docker
from tests.docker.engine import NAMESPACE, PROGRAM, Engine, an_engine, stores
from tests.images import busybox_docker_tar

HERE = Path(__file__).parent
IMAGE = "busybox-test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder runs other projects' programs, as root."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.compat)
            item.add_marker(pytest.mark.root)
            if PROGRAM is None:
                item.add_marker(pytest.mark.skip(reason="no dockerd: apt-get install docker.io"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show with a failure what dockerd and the supervisor logged during the test."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    engine = arguments.get("live_engine") or arguments.get("engine")
    if engine is not None and report.when == "call":
        logs = {"dockerd": engine.news(), "the supervisor": engine.target.news()}
        if report.failed:
            report.sections += [(f"log of {name}", text[-20_000:]) for name, text in logs.items()]
    return report


@pytest.fixture(scope="session", params=stores())
def store(request: pytest.FixtureRequest) -> str:
    """Each place in turn in which the engine at hand can keep images."""
    return str(request.param)


@pytest.fixture(scope="session")
def image_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ordinary image as `docker save` writes it."""
    return busybox_docker_tar(tmp_path_factory.mktemp("docker") / "busybox.tar")


@pytest.fixture(scope="session")
def engine(store: str, image_tar: Path) -> Iterator[Engine]:
    """The engine that most tests share; it has the ordinary image."""
    with an_engine(store) as engine:
        engine.docker.run("load", "--input", str(image_tar))
        yield engine


@pytest.fixture(scope="session")
def lasting_engine(store: str, image_tar: Path) -> Iterator[Engine]:
    """The engine of the tests that end daemons; its containers live on without dockerd."""
    with an_engine(store, "--live-restore") as engine:
        engine.docker.run("load", "--input", str(image_tar))
        yield engine


@pytest.fixture
def live_engine(lasting_engine: Engine) -> Iterator[Engine]:
    """An engine whose dockerd and supervisor may be ended and started again; it has no containers."""
    yield lasting_engine
    remove_all(lasting_engine.docker)


def remove_all(docker: Docker) -> None:
    """Remove every container."""
    names = docker.out("ps", "--all", "--quiet").split()
    if names:
        docker.run("rm", "--force", "--volumes", *names)


@pytest.fixture
def docker(engine: Engine) -> Iterator[Docker]:
    """The client; after the test no container, process, mount, cgroup or file of state may be left."""
    yield engine.docker
    remove_all(engine.docker)
    eventually(
        lambda: not engine.target.leftovers(NAMESPACE), what="the supervisor to have removed all of it"
    )
