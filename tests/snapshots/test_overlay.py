"""The overlayfs driver against contract 7.5."""

import os
import stat
from pathlib import Path

import pytest

from supervisor.errors import FailedPrecondition, SupervisorError
from supervisor.kernel import features
from supervisor.kernel.mounts import mounted
from supervisor.model.mount import Mount
from supervisor.snapshots.overlay import OverlaySnapshotter
from tests.snapshots.contract import SnapshotterContract, active, committed, view

UID_MAP = "containerd.io/snapshot/uidmapping"
GID_MAP = "containerd.io/snapshot/gidmapping"


@pytest.fixture
def driver(scratch: Path) -> OverlaySnapshotter:
    return OverlaySnapshotter(scratch / "overlayfs")


@pytest.fixture
def extra() -> tuple[str, ...]:
    return ("index=off",) if features.overlay_has_index() else ()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestOverlayContract(SnapshotterContract):
    """The contract on this driver."""


def test_a_bind_where_one_folder_is_all(driver: OverlaySnapshotter) -> None:
    """7.5: no overlay, and so no extra options, for a single layer."""
    top = f"{driver.root}/snapshots"
    assert driver.mounts(active(1)) == (Mount("bind", f"{top}/1/fs", ("rw", "rbind")),)
    assert driver.mounts(view(1)) == (Mount("bind", f"{top}/1/fs", ("ro", "rbind")),)
    assert driver.mounts(view(2, 1)) == (Mount("bind", f"{top}/1/fs", ("ro", "rbind")),)


def test_an_overlay_names_its_layers_from_the_nearest_on(
    driver: OverlaySnapshotter, extra: tuple[str, ...]
) -> None:
    """7.5: order of the options."""
    top = f"{driver.root}/snapshots"
    lower = f"lowerdir={top}/2/fs:{top}/1/fs"
    writable = (f"workdir={top}/3/work", f"upperdir={top}/3/fs")
    assert driver.mounts(active(3, 2, 1)) == (Mount("overlay", "overlay", (*writable, lower, *extra)),)
    assert driver.mounts(view(3, 2, 1)) == (Mount("overlay", "overlay", (lower, *extra)),)


def test_configured_options_come_first_and_once(scratch: Path) -> None:
    """7.5: `mount_options`, then what this machine needs unless it was configured."""
    driver = OverlaySnapshotter(scratch / "o", mount_options=("volatile", "index=on"))
    assert driver.mounts(view(3, 2, 1))[0].options[1:] == ("volatile", "index=on")
    assert driver.mounts(active(1))[0].options == ("rw", "rbind")


def test_modes_of_the_folders(driver: OverlaySnapshotter) -> None:
    """7.5: modes, whatever the umask."""
    before = os.umask(0o077)
    try:
        driver.create(active(1))
        driver.create(view(2))
    finally:
        os.umask(before)
    top = Path(driver.root) / "snapshots"
    assert [mode(p) for p in (top, top / "1", top / "1/fs", top / "1/work")] == [0o700, 0o700, 0o755, 0o711]
    assert os.listdir(top / "2") == ["fs"]


@pytest.mark.root
def test_the_mode_of_the_parent_is_not_inherited(driver: OverlaySnapshotter) -> None:
    """7.5: the owner of the parent's folder, but not its mode."""
    driver.create(active(1))
    parent = Path(driver.root) / "snapshots/1/fs"
    os.chown(parent, 5, 6)
    parent.chmod(0o700)
    driver.create(active(2, 1))
    child = (Path(driver.root) / "snapshots/2/fs").stat()
    assert (child.st_uid, child.st_gid, stat.S_IMODE(child.st_mode)) == (5, 6, 0o755)


@pytest.mark.root
def test_id_mappings_come_first_and_own_the_layer(driver: OverlaySnapshotter) -> None:
    """7.5: uidmap and gidmap in front in every case; the layer belongs to the container's root."""
    labels = {UID_MAP: "0:100000:65536", GID_MAP: "0:200000:65536"}
    layer = active(1, **labels)
    driver.check(labels)
    driver.create(layer)
    options = driver.mounts(layer)[0].options
    if features.kernel_version() >= (5, 19):
        assert options == ("uidmap=0:100000:65536", "gidmap=0:200000:65536", "rw", "rbind")
        assert "remap-ids" in driver.capabilities
    status = (Path(driver.root) / "snapshots/1/fs").stat()
    assert (status.st_uid, status.st_gid) == (100000, 200000)


@pytest.mark.root
def test_a_missing_second_mapping_shifts_nothing(driver: OverlaySnapshotter) -> None:
    """7.5: identity for the ids without a label."""
    driver.create(active(1, **{UID_MAP: "5:1:2,0:100000:10"}))
    status = (Path(driver.root) / "snapshots/1/fs").stat()
    assert (status.st_uid, status.st_gid) == (100000, 0)


@pytest.mark.parametrize("value", ["x", "0:1", "0:1:2:3", "1:100:10", "0:99999999999:1", "0:0:0", "-1:0:1"])
def test_mappings_that_cannot_be_understood(driver: OverlaySnapshotter, value: str) -> None:
    """7.1, 7.5: UNKNOWN, also where the container's id 0 is not mapped."""
    with pytest.raises(SupervisorError) as raised:
        driver.check({UID_MAP: value})
    assert raised.value.code == 2


@pytest.mark.root
def test_the_filesystem_of_the_root_is_tried(driver: OverlaySnapshotter, scratch: Path) -> None:
    """12.2: a driver that cannot work says so at the start, in words that `ctr plugins ls` knows."""
    driver.check_supported()
    with pytest.raises(FailedPrecondition, match="skip plugin"):
        OverlaySnapshotter(scratch / "bad", mount_options=("no-such-option",)).check_supported()
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()
    assert os.listdir(Path(driver.root) / "trash") == []


@pytest.mark.root
@pytest.mark.skipif(features.kernel_version() < (5, 19), reason="needs shifted layers under overlayfs")
def test_a_child_with_a_mapping_shows_its_parents_shifted(driver: OverlaySnapshotter, scratch: Path) -> None:
    """7.5: the kernel shifts the layers below; what the container writes is stored as the host's ids."""
    committed(driver, 1, scratch=scratch, files={"a": "one"})
    committed(driver, 2, 1, scratch=scratch, files={"b": "two"})
    child = active(3, 2, 1, **{UID_MAP: "0:100000:65536", GID_MAP: "0:200000:65536"})
    driver.create(child)
    with mounted(driver.mounts(child), scratch) as root:
        for path in (root, root / "a", root / "b"):
            assert (path.stat().st_uid, path.stat().st_gid) == (100000, 200000)
    assert (Path(driver.root) / "snapshots/1/fs/a").stat().st_uid == 0


@pytest.mark.root
@pytest.mark.parametrize("count", [120, 500])
def test_a_deep_chain_mounts(driver: OverlaySnapshotter, scratch: Path, count: int) -> None:
    """Contract tasks 5: layers that do not fit into a page of mount data, also when named shortly."""
    if count > 120 and features.kernel_version() < (6, 7):
        pytest.skip("overlayfs takes layers one by one since 6.7")
    numbers: tuple[int, ...] = ()
    for number in range(10_000_001, 10_000_001 + count):
        driver.create(active(number))
        (Path(driver.root) / f"snapshots/{number}/fs/{number}").touch()
        numbers = (number, *numbers)
    layer = active(200, *numbers)
    driver.create(layer)
    assert len(",".join(driver.mounts(layer)[0].options)) > 4096
    with mounted(driver.mounts(layer), scratch) as root:
        assert len(os.listdir(root)) == count
        (root / "new").touch()
    assert (Path(driver.root) / "snapshots/200/fs/new").exists()


@pytest.mark.root
def test_deleting_in_a_child_leaves_a_whiteout(driver: OverlaySnapshotter, scratch: Path) -> None:
    committed(driver, 1, scratch=scratch, files={"a": "one"})
    driver.create(active(2, 1))
    with mounted(driver.mounts(active(2, 1)), scratch) as root:
        (root / "a").unlink()
    status = os.lstat(Path(driver.root) / "snapshots/2/fs/a")
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0
