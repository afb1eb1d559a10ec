"""Mounts performed and undone (contract tasks 5)."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from supervisor.kernel import mountinfo
from supervisor.kernel.mounts import in_private_namespace, mount_all, mounted, unmount, unmount_recursive
from supervisor.model.mount import Mount

pytestmark = pytest.mark.root

TMPFS = Mount("tmpfs", "tmpfs", ("size=1m", "mode=0700"))


def points(root: Path) -> list[str]:
    return [entry.mount_point for entry in mountinfo.mounts_below(root)]


def test_words_become_flags_and_the_rest_data(tmp_path: Path) -> None:
    with mounted([Mount("tmpfs", "t", ("nosuid", "noexec", "ro", "mode=0711"))], tmp_path) as root:
        (entry,) = mountinfo.mounts_below(root)
        assert {"nosuid", "noexec", "ro"} <= set(entry.options)
        assert root.stat().st_mode & 0o777 == 0o711
    assert os.listdir(tmp_path) == []


def test_a_read_only_bind_needs_a_second_call_and_gets_it(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with mounted([Mount("bind", str(tmp_path / "source"), ("rbind", "ro"))], tmp_path) as root:
        with pytest.raises(OSError, match="Read-only"):
            (root / "x").touch()
        (tmp_path / "source/y").touch()
        assert os.listdir(root) == ["y"]


def test_the_flags_of_a_bind_s_source_stay(tmp_path: Path) -> None:
    with mounted([Mount("tmpfs", "t", ("nosuid", "nodev"))], tmp_path) as source:
        with mounted([Mount("bind", str(source), ("bind", "ro"))], tmp_path) as root:
            (entry,) = mountinfo.mounts_below(root)
            assert {"ro", "nosuid", "nodev"} <= set(entry.options)
        with mounted([Mount("bind", str(source), ("bind", "ro", "suid"))], tmp_path) as root:
            (entry,) = mountinfo.mounts_below(root)
            assert "nosuid" not in entry.options


def test_propagation_is_set_after_the_mount(tmp_path: Path) -> None:
    with mounted([Mount("tmpfs", "t", ("shared",))], tmp_path) as root:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        assert "shared:" in next(line for line in lines if f" {root} " in line)


def test_a_later_mount_sits_on_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    mount_all([TMPFS], tmp_path / "m")
    (tmp_path / "m/sub").mkdir()
    mount_all([Mount("tmpfs", "t", (), "/sub")], tmp_path / "m")
    mount_all([TMPFS], tmp_path / "m")
    assert len(points(tmp_path / "m")) == 3
    unmount_recursive(tmp_path / "m")
    assert points(tmp_path / "m") == []


def test_what_was_mounted_is_undone_when_a_later_one_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-filesystem") as raised:
        mount_all([TMPFS, TMPFS, Mount("no-such-filesystem", "x")], tmp_path)
    assert raised.value.errno == errno.ENODEV
    assert raised.value.filename == str(tmp_path)
    assert points(tmp_path) == []


def test_a_target_cannot_leave_the_root(tmp_path: Path) -> None:
    """Contract tasks 5: the target is joined below the root, safe against links."""
    outside = tmp_path / "outside"
    inside = tmp_path / "root/outside"
    for folder in (outside, inside):
        folder.mkdir(parents=True)
    (tmp_path / "root/link").symlink_to("/outside")
    (tmp_path / "root/up").symlink_to("../../../../outside")
    for target in ("link", "up", "../outside"):
        mount_all([Mount("tmpfs", "t", (), target)], tmp_path / "root")
        assert points(tmp_path) == [str(inside)]
        unmount_recursive(tmp_path / "root")


def test_a_missing_target_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        mount_all([Mount("tmpfs", "t", (), "nowhere")], tmp_path)


def test_unmounting_takes_off_all_and_tolerates_nothing(tmp_path: Path) -> None:
    mount_all([TMPFS, TMPFS, TMPFS], tmp_path)
    unmount(tmp_path)
    assert points(tmp_path) == []
    unmount(tmp_path)
    unmount(tmp_path / "missing")
    unmount_recursive(tmp_path / "missing")


def test_unmounting_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    mount_all([TMPFS], tmp_path / "real")
    try:
        unmount(tmp_path / "link")
        assert points(tmp_path) == [str(tmp_path / "real")]
    finally:
        unmount(tmp_path / "real")


def test_a_busy_mount_is_waited_for_and_then_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.kernel.mounts._BUSY_PAUSE", 0)
    mount_all([TMPFS], tmp_path)
    with (tmp_path / "held").open("w"), pytest.raises(OSError, match="busy") as raised:
        unmount(tmp_path)
    assert raised.value.errno == errno.EBUSY
    unmount(tmp_path)


def test_mounts_in_a_private_namespace_are_seen_by_nobody_else(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def work() -> None:
        mount_all([TMPFS], tmp_path)
        (tmp_path / "inside").touch()
        seen.append(os.listdir(tmp_path))

    in_private_namespace(work)
    assert seen == [["inside"]]
    assert os.listdir(tmp_path) == []
    assert points(tmp_path) == []


def test_options_that_the_kernel_would_cut_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="more than a page"):
        mount_all([Mount("tmpfs", "t", ("x" * 5000,))], tmp_path)


def test_names_with_spaces_are_found_again(tmp_path: Path) -> None:
    odd = tmp_path / "a b\\c\nd"
    odd.mkdir()
    mount_all([TMPFS], odd)
    assert points(odd) == [str(odd)]
    unmount_recursive(odd)
    assert points(tmp_path) == []


def test_a_place_is_known_by_a_path_with_links_as_well(tmp_path: Path) -> None:
    (tmp_path / "real/place").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    mount_all([TMPFS], tmp_path / "real/place")
    assert points(tmp_path / "link/place") == [str(tmp_path / "real/place")]
    unmount_recursive(tmp_path / "link/place")
    assert points(tmp_path / "real/place") == []


def test_a_name_that_begins_like_another_is_not_below_it(tmp_path: Path) -> None:
    for name in ("a", "ab"):
        (tmp_path / name).mkdir()
    mount_all([TMPFS], tmp_path / "ab")
    assert points(tmp_path / "a") == []
    unmount_recursive(tmp_path / "ab")


def test_a_loop_device_is_attached_and_freed(tmp_path: Path) -> None:
    if not Path("/dev/loop-control").exists():
        pytest.skip("no loop devices here")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted([Mount("ext4", str(image), ("loop", "ro"))], tmp_path) as root:
        assert os.listdir(root) == ["lost+found"]
        (entry,) = mountinfo.mounts_below(root)
        assert entry.source.startswith("/dev/loop")
    backing = [p.read_text().strip() for p in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert str(image) not in backing
