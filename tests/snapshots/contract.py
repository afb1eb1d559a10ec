"""What every driver of snapshots has to do; each driver's tests run this class on it."""

import os
import stat
from pathlib import Path

import pytest

from supervisor.kernel.mounts import mounted
from supervisor.snapshots.snapshotter import Kind, Layer, Snapshotter


def active(number: int, *parents: int, **labels: str) -> Layer:
    return Layer(number, Kind.ACTIVE, parents, labels)


def view(number: int, *parents: int) -> Layer:
    return Layer(number, Kind.VIEW, parents)


def committed(driver: Snapshotter, number: int, *parents: int, scratch: Path, files: dict[str, str]) -> None:
    layer = active(number, *parents)
    driver.create(layer)
    with mounted(driver.mounts(layer), scratch) as root:
        for name, text in files.items():
            (root / name).write_text(text)
    driver.commit(layer)


class SnapshotterContract:
    """Needs a fixture `driver`, empty and below `scratch`, which is another fixture."""

    def test_a_new_snapshot_has_files_under_its_number(self, driver: Snapshotter) -> None:
        driver.create(active(7))
        driver.create(view(8))
        assert driver.numbers() == {7, 8}

    def test_mounts_touch_nothing_and_stay_the_same(self, driver: Snapshotter) -> None:
        driver.create(active(1))
        driver.commit(active(1))
        first = driver.mounts(active(2, 1))
        assert driver.numbers() == {1}
        driver.create(active(2, 1))
        assert driver.mounts(active(2, 1)) == first

    def test_removed_files_are_out_of_sight_and_then_gone(self, driver: Snapshotter) -> None:
        driver.create(active(1))
        driver.remove(1)
        assert driver.numbers() == set()
        driver.cleanup()
        files = [name for folder in os.walk(driver.root) for name in folder[2]]
        assert files == []

    def test_removing_what_is_not_there_is_fine(self, driver: Snapshotter) -> None:
        driver.remove(99)
        driver.cleanup()

    def test_create_can_be_undone_and_done_again_under_another_number(self, driver: Snapshotter) -> None:
        driver.create(active(1))
        driver.remove(1)
        driver.create(active(2))
        assert driver.numbers() == {2}

    def test_usage_of_an_active_snapshot_is_measured_now(self, driver: Snapshotter) -> None:
        driver.create(active(1))
        before = driver.usage(active(1))
        folder = next(Path(m.source) for m in driver.mounts(active(1)))
        (folder / "file").write_bytes(b"x" * 100_000)
        os.link(folder / "file", folder / "again")
        after = driver.usage(active(1))
        assert after.inodes == before.inodes + 1
        assert after.size >= before.size + 100_000
        assert driver.commit(active(1)) == after

    @pytest.mark.root
    def test_a_child_sees_its_parents_and_changes_none_of_them(
        self, driver: Snapshotter, scratch: Path
    ) -> None:
        committed(driver, 1, scratch=scratch, files={"a": "one", "b": "one"})
        committed(driver, 2, 1, scratch=scratch, files={"b": "two"})
        third = active(3, 2, 1)
        driver.create(third)
        with mounted(driver.mounts(third), scratch) as root:
            assert (root / "a").read_text() == "one"
            assert (root / "b").read_text() == "two"
            (root / "a").unlink()
            assert sorted(os.listdir(root)) == ["b"]
        looking = view(4, 2, 1)
        driver.create(looking)
        with mounted(driver.mounts(looking), scratch) as root:
            assert sorted(os.listdir(root)) == ["a", "b"]

    @pytest.mark.root
    @pytest.mark.parametrize("parents", [(), (1,), (2, 1)])
    def test_a_view_cannot_be_written(
        self, driver: Snapshotter, scratch: Path, parents: tuple[int, ...]
    ) -> None:
        committed(driver, 1, scratch=scratch, files={"a": "one"})
        committed(driver, 2, 1, scratch=scratch, files={"b": "two"})
        driver.create(view(3, *parents))
        refused = pytest.raises(OSError, match="Read-only")
        with mounted(driver.mounts(view(3, *parents)), scratch) as root, refused:
            (root / "new").touch()

    @pytest.mark.root
    def test_a_child_has_the_owner_of_its_parent(self, driver: Snapshotter, scratch: Path) -> None:
        driver.create(active(1))
        with mounted(driver.mounts(active(1)), scratch) as root:
            os.chown(root, 1000, 1001)
        driver.commit(active(1))
        driver.create(active(2, 1))
        with mounted(driver.mounts(active(2, 1)), scratch) as root:
            status = os.stat(root)
        assert (status.st_uid, status.st_gid) == (1000, 1001)
        assert stat.S_IMODE(status.st_mode) == 0o755

    @pytest.mark.root
    def test_a_tree_deeper_than_any_path_can_be_removed(self, driver: Snapshotter) -> None:
        driver.create(active(1))
        held = os.open(driver.mounts(active(1))[0].source, os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("deep", dir_fd=held)
            below = os.open("deep", os.O_RDONLY, dir_fd=held)
            os.close(held)
            held = below
        os.close(held)
        driver.remove(1)
        driver.cleanup()
        assert os.listdir(Path(driver.root) / "trash") == []
