"""Mounts with shifted owners (contract metadata 7.5, tasks 5)."""

import os
from pathlib import Path

import pytest

from supervisor.kernel.features import kernel_version
from supervisor.kernel.mounts import mounted
from supervisor.model.mount import Mount

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(kernel_version() < (5, 19), reason="overlayfs takes no shifted layers before 5.19"),
]

MAPS = ("uidmap=0:100000:1000,1000:300000:10", "gidmap=0:200000:1000")


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """Two layers with a file of root and one of user 1001, below a folder of their own."""
    for name in ("one", "two"):
        (tmp_path / "layers" / name).mkdir(parents=True)
        (tmp_path / "layers" / name / name).touch()
    (tmp_path / "layers/one/user").touch()
    os.chown(tmp_path / "layers/one/user", 1001, 5)
    return tmp_path / "layers"


def test_a_bind_shows_shifted_owners(tmp_path: Path, layers: Path) -> None:
    with mounted([Mount("bind", str(layers / "one"), (*MAPS, "rw", "rbind"))], tmp_path) as root:
        assert owner(root / "one") == (100000, 200000)
        assert owner(root / "user") == (300001, 200005)
        with pytest.raises(OSError, match="Value too large"):
            os.chown(root / "user", 5, 5)
        os.chown(root / "user", 100007, 200007)
    assert owner(layers / "one/user") == (7, 7)
    assert owner(layers / "one/one") == (0, 0)


def test_a_missing_map_shifts_nothing(tmp_path: Path, layers: Path) -> None:
    with mounted([Mount("bind", str(layers / "one"), (MAPS[0], "ro", "rbind"))], tmp_path) as root:
        assert owner(root / "one") == (100000, 0)
        with pytest.raises(OSError, match="Read-only"):
            (root / "made").touch()


def test_the_lower_layers_of_an_overlay_are_shifted(tmp_path: Path, layers: Path) -> None:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    os.chown(tmp_path / "upper", 100000, 200000)
    writable = (f"workdir={tmp_path}/work", f"upperdir={tmp_path}/upper")
    lower = f"lowerdir={layers}/two:{layers}/one"
    with mounted([Mount("overlay", "overlay", (*MAPS, *writable, lower))], tmp_path) as root:
        assert owner(root) == (100000, 200000)
        assert owner(root / "two") == (100000, 200000)
        assert owner(root / "user") == (300001, 200005)
        os.chown(root / "two", 100001, 200001)
    assert owner(layers / "two/two") == (0, 0)
    assert owner(tmp_path / "upper/two") == (100001, 200001)
    assert "idmapped-" not in Path("/proc/self/mountinfo").read_text()


def test_a_map_that_the_kernel_refuses_is_named(tmp_path: Path, layers: Path) -> None:
    mount = Mount("bind", str(layers / "one"), ("uidmap=0:1:0", "rbind"))
    with pytest.raises(OSError, match="uidmap=0:1:0"), mounted([mount], tmp_path):
        pass
    assert sorted(os.listdir(tmp_path)) == ["layers"]
