"""Fixtures of the compatibility suite: a daemon, `ctr` in a namespace of the test's own, images.

Every test gets a fresh namespace on a shared daemon, and fails when it leaves a task, a
container, a mount, a process, a cgroup or a file of state in it. Tests that kill the daemon get
one of their own.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.compat.api import Api, connected
from tests.compat.ctr import Ctr, eventually
from tests.compat.registry import Registry, serving
from tests.compat.target import CONTAINERD, Target
from tests.images import TAG, busybox_oci_tar

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder runs other projects' programs, as root."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.compat)
            item.add_marker(pytest.mark.root)
            if not shutil.which("ctr"):
                item.add_marker(pytest.mark.skip(reason="no ctr: apt-get install containerd"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show with a failure what the daemon logged during the test."""
    report = yield
    target = getattr(item, "funcargs", {}).get("target") or getattr(item, "funcargs", {}).get("own_target")
    if target is not None and report.when == "call":
        told = target.news()
        if report.failed:
            report.sections.append(("log of the daemon", told[-20_000:]))
    return report


@contextmanager
def a_target(containerd: bool = CONTAINERD, config: str = "") -> Iterator[Target]:
    """A running daemon in a folder with a short name, for sockets' paths are limited; checked at its end."""
    with tempfile.TemporaryDirectory(prefix="cs-", dir="/run") as folder:
        target = Target(Path(folder), containerd, config)
        try:
            target.start()
            yield target
            left = eventually_clean(target)
            status = target.stop()
            assert not left
            assert status == 0, f"the daemon ended with {status}: {target.news()[-4000:]}"
            assert not target.leftovers()
        finally:
            target.kill()
            target.sweep()


def eventually_clean(target: Target, namespace: str = "") -> list[str]:
    """What is still there after the daemon had its time to finish what goes on in the background."""
    try:
        eventually(lambda: not target.leftovers(namespace), within=10)
    except AssertionError:
        return target.leftovers(namespace)
    return []


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """The daemon that most tests share."""
    with a_target() as target:
        yield target


@pytest.fixture
def own_target() -> Iterator[Target]:
    """A daemon for a test that kills or restarts it."""
    with a_target() as target:
        yield target


@pytest.fixture(scope="session")
def image_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ordinary image: gzip layers, one platform."""
    return busybox_oci_tar(tmp_path_factory.mktemp("images") / "busybox.tar")


def namespace_for(target: Target, request: pytest.FixtureRequest) -> str:
    """A namespace that says whose it is and that nobody had before."""
    words = re.findall(r"[a-z0-9]+", request.node.name.removeprefix("test_").lower())
    name = "-".join(words)[:30].rstrip("-")
    target.namespaces.append(f"{name}-{uuid.uuid4().hex[:8]}")
    return target.namespaces[-1]


def left_in(ctr: Ctr) -> list[str]:
    """The rows of a namespace that tests must not leave."""
    return [f"task {row}" for row in ctr.table("tasks", "ls")] + [
        f"container {row}" for row in ctr.table("containers", "ls")
    ]


def clean_up(ctr: Ctr) -> None:
    """Remove what a test left, so that others do not fail for it."""
    for row in ctr.table("tasks", "ls"):
        ctr.run("tasks", "kill", "--all", "--signal", "KILL", row[0], check=False)
        ctr.run("tasks", "rm", "--force", row[0], check=False)
    for row in ctr.table("containers", "ls"):
        ctr.run("containers", "rm", row[0], check=False)


@pytest.fixture
def ctr(target: Target, request: pytest.FixtureRequest) -> Iterator[Ctr]:
    """A client in a namespace of its own, which must be as empty afterwards as it was."""
    client = target.ctr(namespace_for(target, request))
    yield client
    left = left_in(client)
    clean_up(client)
    left += eventually_clean(target, client.namespace)
    assert not left


@pytest.fixture
def own_ctr(own_target: Target, request: pytest.FixtureRequest) -> Ctr:
    """A client of the test's own daemon."""
    return own_target.ctr(namespace_for(own_target, request))


@pytest.fixture
def image(ctr: Ctr, image_tar: Path) -> str:
    """The ordinary image, imported; its name."""
    ctr.run("images", "import", str(image_tar))
    return TAG


@pytest.fixture
def own_image(own_ctr: Ctr, image_tar: Path) -> str:
    """The ordinary image, imported into the test's own daemon; its name."""
    own_ctr.run("images", "import", str(image_tar))
    return TAG


@pytest.fixture
def registry(image_tar: Path) -> Iterator[Registry]:
    """A registry on loopback that has the ordinary image."""
    with serving(image_tar) as registry:
        yield registry


@pytest.fixture
def api(ctr: Ctr) -> Iterator[Api]:
    """Raw calls in the test's namespace."""
    with connected(ctr.address, ctr.namespace) as api:
        yield api
