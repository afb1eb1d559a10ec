"""Overlays tried for real, and filesystems that do not do for them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.doctor import overlay
from supervisor.doctor.finding import Verdict
from supervisor.kernel import listing, mountinfo
from supervisor.kernel.mounts import mounted
from supervisor.model.mount import Mount


@pytest.mark.root
def test_an_overlay_is_tried_and_nothing_stays() -> None:
    before = mountinfo.mounts_below(Path("/sys"))
    found = overlay.overlay(Path("/proc/filesystems"))
    assert found.verdict is Verdict.OK, found
    assert "was mounted" in found.seen
    assert mountinfo.mounts_below(Path("/sys")) == before


def test_a_kernel_without_it(tmp_path: Path) -> None:
    (tmp_path / "filesystems").write_text("nodev\ttmpfs\n\text4\n")
    found = overlay.overlay(tmp_path / "filesystems")
    # On a machine whose kernel has it as a module, that is what is said.
    assert found.verdict in (Verdict.FAILURE, Verdict.NOTE)
    assert "tried" not in found.seen


@pytest.mark.root
def test_an_overlay_that_cannot_be_mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(overlay, "_SCENE", tmp_path / "absent")
    found = overlay.overlay(Path("/proc/filesystems"))
    assert found.verdict is Verdict.FAILURE
    assert "absent" in found.seen


def test_the_folder_of_tests_will_do(tmp_path: Path) -> None:
    assert overlay.layers(tmp_path).verdict in (Verdict.OK, Verdict.NOTE)
    assert listing.tells_types(tmp_path)


@pytest.mark.root
def test_an_overlay_on_an_overlay_will_not(tmp_path: Path) -> None:
    for name in ("l", "u", "w", "m"):
        (tmp_path / name).mkdir()
    options = (f"lowerdir={tmp_path}/l", f"upperdir={tmp_path}/u", f"workdir={tmp_path}/w")
    with mounted([Mount("overlay", "overlay", options)], tmp_path / "m") as point:
        found = overlay.layers(point)
        assert found.verdict is Verdict.FAILURE
        assert "on overlay" in found.seen
        # And the kernel agrees, which is why it is said.
        for name in ("u", "w"):
            (point / name).mkdir()
        nested = (f"lowerdir={tmp_path}/l", f"upperdir={point}/u", f"workdir={point}/w")
        with (
            pytest.raises(OSError, match="overlay"),
            mounted([Mount("overlay", "overlay", nested)], tmp_path),
        ):
            pass


@contextmanager
def filesystem_without_types(folder: Path) -> Iterator[Path]:
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^filetype,^has_journal", image], check=True)
    with mounted([Mount("ext4", str(image), ("loop",))], folder) as point:
        yield point


@pytest.mark.root
def test_a_filesystem_without_types_in_its_listings(tmp_path: Path) -> None:
    with filesystem_without_types(tmp_path) as point:
        assert not listing.tells_types(point)
        found = overlay.layers(point)
    assert found.verdict is Verdict.FAILURE
    assert "types" in found.seen


def test_nothing_is_asked_where_overlays_are_not_wanted(place) -> None:
    assert overlay.checks(place)
    assert overlay.checks(replace(place, drivers=("native",))) == []
