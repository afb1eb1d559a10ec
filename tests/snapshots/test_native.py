"""The native driver against contract 7.6."""

from pathlib import Path

import pytest

from supervisor.model.mount import Mount
from supervisor.snapshots.native import NativeSnapshotter
from tests.snapshots.contract import SnapshotterContract, active, view


@pytest.fixture
def driver(scratch: Path) -> NativeSnapshotter:
    return NativeSnapshotter(scratch / "native")


class TestNativeContract(SnapshotterContract):
    """The contract on this driver."""


def test_one_bind_mount(driver: NativeSnapshotter) -> None:
    """7.6: `rbind` first; a view looks at its parent, or at an empty folder of its own."""
    driver.create(active(1))
    for layer, number, access in ((active(1), 1, "rw"), (view(2), 2, "ro"), (view(3, 1), 1, "ro")):
        source = f"{driver.root}/snapshots/{number}/fs"
        assert driver.mounts(layer) == (Mount("bind", source, ("rbind", access)),)


def test_an_active_snapshot_is_a_full_copy_and_counts_as_one(driver: NativeSnapshotter) -> None:
    """7.6: usage counts the copy."""
    driver.create(active(1))
    (Path(driver.root) / "snapshots/1/fs/file").write_bytes(b"x" * 50_000)
    driver.commit(active(1))
    driver.create(active(2, 1))
    assert driver.usage(active(2, 1)) == driver.usage(active(1))
    (Path(driver.root) / "snapshots/2/fs/file").write_bytes(b"")
    assert (Path(driver.root) / "snapshots/1/fs/file").stat().st_size == 50_000


def test_no_capabilities(driver: NativeSnapshotter) -> None:
    """7.6: a copy cannot be put on another parent, so `rebase` is not offered."""
    assert driver.capabilities == ()
