"""One suite of assertions for all cells of the matrix of daemons, shims and runtimes (contract tasks 8)."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.compat.api import connected
from tests.compat.conftest import eventually_clean
from tests.conformance.cells import CELLS, Cell, target_of
from tests.conformance.driving import Bench, Output, make_rootfs
from tests.images import busybox_oci_tar

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder runs other projects' programs, as root."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.compat)
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session", params=CELLS, ids=lambda cell: cell.name)
def shared_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The running daemon of a cell, for all tests."""
    with a_bench(request.param) as bench:
        yield bench


@contextmanager
def a_bench(cell: Cell) -> Iterator[Bench]:
    """The running daemon of a cell; nothing may be left of its containers at the end."""
    if cell.missing():
        pytest.skip(f"no {cell.missing()} on this machine")
    with tempfile.TemporaryDirectory(prefix="cs-", dir="/run") as name:
        folder = Path(name)
        target = target_of(cell, folder)
        namespace = f"matrix-{uuid.uuid4().hex[:8]}"
        target.namespaces.append(namespace)
        try:
            target.start()
            with connected(target.address, namespace) as api:
                yield Bench(cell, target, api, target.ctr(namespace), make_rootfs(folder / "box"), folder)
            left = eventually_clean(target)
            assert target.stop() == 0, target.news()[-4000:]
            assert not left
        finally:
            target.kill()
            target.sweep()


@pytest.fixture
def bench(shared_bench: Bench) -> Iterator[Bench]:
    """The cell's daemon; what the test made is deleted at its end."""
    yield shared_bench
    shared_bench.clear()


@pytest.fixture
def target(shared_bench: Bench) -> object:
    """The daemon under the name by which its log goes with a failure."""
    return shared_bench.target


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Output]:
    """A fifo for output."""
    made = Output(tmp_path / "out")
    yield made
    made.close()


@pytest.fixture(scope="session")
def image_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ordinary image."""
    return busybox_oci_tar(tmp_path_factory.mktemp("images") / "busybox.tar")
