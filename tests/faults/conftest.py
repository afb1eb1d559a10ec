"""A daemon of the test's own, to be hurt; whatever happens to it, nothing may be left at the end."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.compat.api import connected
from tests.compat.conftest import eventually_clean
from tests.compat.target import Target
from tests.conformance.cells import Cell
from tests.conformance.driving import Bench, Output, make_rootfs

HERE = Path(__file__).parent
OURS = Cell("ours-runc", "ours")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder starts containers."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.compat)
            item.add_marker(pytest.mark.root)


@contextmanager
def a_bench(config: str = "", cell: Cell = OURS) -> Iterator[Bench]:
    """A running daemon of ours with so much more configuration."""
    if cell.missing():
        pytest.skip(f"no {cell.missing()} on this machine")
    with tempfile.TemporaryDirectory(prefix="cs-", dir="/run") as name:
        folder = Path(name)
        target = Target(folder, containerd=False, config=cell.config + config)
        namespace = f"faults-{uuid.uuid4().hex[:8]}"
        target.namespaces.append(namespace)
        try:
            target.start()
            with connected(target.address, namespace) as api:
                bench = Bench(cell, target, api, target.ctr(namespace), make_rootfs(folder / "box"), folder)
                yield bench
                bench.clear()
            assert not eventually_clean(target)
            assert target.stop() == 0, target.news()[-4000:]
            assert not target.leftovers()
        finally:
            target.kill()
            target.sweep()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A running daemon."""
    with a_bench() as made:
        yield made


@pytest.fixture
def target(bench: Bench) -> Target:
    """The daemon under the name by which its log goes with a failure."""
    return bench.target


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Output]:
    """A fifo for output."""
    made = Output(tmp_path / "out")
    yield made
    made.close()
