"""Owners, modes and space of folders made for it."""

import os
import stat
from pathlib import Path

import pytest

from supervisor.doctor import folders
from supervisor.doctor.finding import Verdict
from supervisor.doctor.place import Place
from supervisor.kernel.files import locked
from supervisor.kernel.mounts import mounted
from supervisor.model.mount import Mount

ME = os.geteuid()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    tmp_path.chmod(0o711)
    return tmp_path


@pytest.mark.parametrize(
    ("mode", "verdict"),
    [
        (0o711, Verdict.OK),
        (0o710, Verdict.OK),
        (0o700, Verdict.NOTE),
        (0o755, Verdict.WARNING),
        (0o733, Verdict.FAILURE),
        (0o777, Verdict.FAILURE),
    ],
)
def test_modes(top: Path, mode: int, verdict: Verdict) -> None:
    (top / "root").mkdir()
    (top / "root").chmod(mode)
    found = folders.folder(top / "root", ME)
    assert found.verdict is verdict, found
    if mode not in (0o711, 0o710):
        assert f"{mode:04o}" in found.seen
        assert f"chmod 0711 {top}/root" in found.advice


def test_a_folder_that_is_not_there_is_made(top: Path) -> None:
    assert folders.folder(top / "no/such", ME).verdict is Verdict.OK


def test_a_file_is_no_folder(top: Path) -> None:
    (top / "root").touch()
    assert "is no folder" in folders.folder(top / "root", ME).seen


def test_a_folder_above_that_others_may_write_to(top: Path) -> None:
    (top / "open/root").mkdir(parents=True)
    (top / "open/root").chmod(0o711)
    (top / "open").chmod(0o777)
    found = folders.folder(top / "open/root", ME)
    assert found.verdict is Verdict.FAILURE
    assert f"others may write to {top}/open" in found.seen
    (top / "open").chmod(0o1777)
    assert folders.folder(top / "open/root", ME).verdict is Verdict.OK


@pytest.mark.root
@pytest.mark.parametrize(("group", "verdict"), [(0, Verdict.OK), (1234, Verdict.FAILURE)])
def test_a_group_that_may_write(top: Path, group: int, verdict: Verdict) -> None:
    (top / "root").mkdir()
    os.chown(top / "root", 0, group)
    (top / "root").chmod(0o731)
    assert folders.folder(top / "root", 0).verdict is verdict


@pytest.mark.root
def test_owners(top: Path) -> None:
    (top / "theirs/root").mkdir(parents=True)
    (top / "theirs/root").chmod(0o711)
    os.chown(top / "theirs/root", 1234, -1)
    assert "belongs to user 1234" in folders.folder(top / "theirs/root", 0).seen
    os.chown(top / "theirs/root", 0, -1)
    os.chown(top / "theirs", 1234, -1)
    found = folders.folder(top / "theirs/root", 0)
    assert found.verdict is Verdict.FAILURE
    assert f"{top}/theirs belongs to user 1234" in found.seen


@pytest.mark.root
def test_space_and_inodes_that_are_scarce(tmp_path: Path) -> None:
    with mounted([Mount("tmpfs", "tmpfs", ("size=1m", "nr_inodes=50"))], tmp_path) as point:
        for scarce, none_left, verdict in (
            (1 << 10, 1 << 10, Verdict.OK),
            (1 << 30, 1 << 10, Verdict.WARNING),
            (1 << 30, 1 << 29, Verdict.FAILURE),
        ):
            found = folders.space(point / "not/there", scarce, none_left)
            assert (found.verdict, "free on tmpfs" in found.seen) == (verdict, True)
        assert folders.inodes(point).verdict is Verdict.FAILURE
        assert "empty after a reboot" in folders.kind_of_state(point).seen
    with mounted([Mount("tmpfs", "tmpfs", ("nr_inodes=5000",))], tmp_path) as point:
        assert folders.inodes(point).verdict is Verdict.WARNING
    with mounted([Mount("tmpfs", "tmpfs", ("nr_inodes=0",))], tmp_path) as point:
        assert folders.inodes(point).verdict is Verdict.OK


def test_a_store_for_all_to_read(place: Place) -> None:
    assert folders.store(place) is None
    place.root.mkdir()
    place.store.touch(0o600)
    assert folders.store(place).verdict is Verdict.OK
    place.store.chmod(0o644)
    found = folders.store(place)
    assert found.verdict is Verdict.FAILURE
    assert stat.filemode(place.store.stat().st_mode) == "-rw-r--r--"  # nothing is changed


def test_what_waits_to_be_deleted(place: Place) -> None:
    assert folders.trash(place) is None
    (place.root / "io.containerd.snapshotter.v1.overlayfs/trash/7").mkdir(parents=True)
    (place.settings.bundles / "default/.gone").mkdir(parents=True)
    (place.settings.bundles / "default/there").mkdir(parents=True)
    found = folders.trash(place)
    assert found.verdict is Verdict.NOTE
    assert "trash/7" in found.seen
    assert "default/.gone" in found.seen
    assert "there" not in found.seen.replace("deleted", "")
    with locked(place.root / "lock"):
        assert folders.trash(place).verdict is Verdict.OK
