"""`ctr snapshots`: prepared, viewed, committed, shown and removed, on both drivers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.ctr import Ctr
from tests.compat.target import is_mounted


@pytest.fixture(params=["overlayfs", "native"])
def driver(request: pytest.FixtureRequest) -> str:
    """The snapshotter that a test runs on."""
    return str(request.param)


class Snapshots:
    """`ctr snapshots` on one driver, with a folder to mount on."""

    def __init__(self, ctr: Ctr, driver: str, place: Path) -> None:
        self.ctr, self.place = ctr, place
        self.words = ("snapshots", "--snapshotter", driver)

    def out(self, *words: str) -> str:
        return self.ctr.out(*self.words, *words)

    def fails(self, *words: str) -> str:
        return self.ctr.fails(*self.words, *words)

    def mount(self, key: str) -> Path:
        """Mount by the command line that ctr tells."""
        command = self.out("mounts", str(self.place), key).split()
        subprocess.run(command, check=True)
        return self.place

    def unmount(self) -> None:
        subprocess.run(["umount", self.place], check=True)

    def write(self, key: str, name: str, text: str) -> None:
        (self.mount(key) / name).write_text(text)
        self.unmount()

    def read(self, key: str, name: str) -> str:
        text = (self.mount(key) / name).read_text()
        self.unmount()
        return text


@pytest.fixture
def snapshots(ctr: Ctr, driver: str, tmp_path: Path) -> Iterator[Snapshots]:
    place = tmp_path / "mnt"
    place.mkdir()
    yield Snapshots(ctr, driver, place)
    if is_mounted(place):
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def chain(snapshots: Snapshots) -> Snapshots:
    """Two committed snapshots, `lower` below `upper`, with a file each."""
    for name, parent in [("lower", ""), ("upper", "lower")]:
        snapshots.out("prepare", f"{name}-active", *([parent] if parent else []))
        snapshots.write(f"{name}-active", name, f"of {name}\n")
        snapshots.out("commit", name, f"{name}-active")
    return snapshots


def test_list_shows_key_parent_and_kind(chain: Snapshots) -> None:
    chain.out("prepare", "work", "upper")
    chain.out("view", "look", "upper")
    listed = sorted(line.split() for line in chain.out("ls").splitlines()[1:])
    assert listed == [
        ["look", "upper", "View"],
        ["lower", "Committed"],
        ["upper", "lower", "Committed"],
        ["work", "upper", "Active"],
    ]


def test_tree_shows_children_below_parents(chain: Snapshots) -> None:
    chain.out("prepare", "work", "upper")
    assert chain.out("tree") == " lower\n  \\_ upper\n    \\_ work\n"


def test_info(chain: Snapshots) -> None:
    chain.out("label", "upper", "colour=blue")
    told = json.loads(chain.out("info", "upper"))
    assert (told["Kind"], told["Name"], told["Parent"]) == ("Committed", "upper", "lower")
    assert told["Labels"]["colour"] == "blue"
    assert told["Updated"] > told["Created"]
    assert "not found" in chain.fails("info", "nothing")


def test_layers_lie_on_each_other(chain: Snapshots) -> None:
    chain.out("prepare", "work", "upper")
    assert chain.read("work", "lower") == "of lower\n"
    chain.write("work", "lower", "changed\n")
    assert chain.read("work", "lower") == "changed\n"
    chain.out("view", "look", "upper")
    assert chain.read("look", "lower") == "of lower\n"
    assert chain.read("look", "upper") == "of upper\n"


def test_view_is_read_only(chain: Snapshots) -> None:
    chain.out("view", "look", "upper")
    with pytest.raises(OSError, match="Read-only file system"):
        chain.write("look", "new", "no")


def test_prepare_prints_a_mount_command(chain: Snapshots) -> None:
    assert chain.out("prepare", "--target", "/mnt", "work", "upper").startswith("mount -t ")


def test_commit_takes_the_key_away(chain: Snapshots) -> None:
    chain.out("prepare", "work", "upper")
    chain.out("commit", "done", "work")
    assert "not found" in chain.fails("info", "work")
    assert "already exists" in chain.fails("prepare", "done", "upper")


def test_parents_are_not_removed(chain: Snapshots) -> None:
    assert "failed precondition" in chain.fails("rm", "lower")
    chain.out("rm", "upper", "lower")
    assert chain.out("ls").splitlines()[1:] == []


def test_a_parent_must_be_committed(chain: Snapshots) -> None:
    chain.out("prepare", "work", "upper")
    assert "invalid argument" in chain.fails("prepare", "more", "work")
    assert "not found" in chain.fails("prepare", "more", "nothing")


def test_usage_counts_a_layer_alone(chain: Snapshots) -> None:
    chain.out("prepare", "work", "upper")
    chain.write("work", "big", "x" * (1 << 20))
    sizes = dict(line.split()[:2] for line in chain.out("usage", "-b").splitlines()[1:])
    assert set(sizes) == {"lower", "upper", "work"}
    assert (1 << 20) <= int(sizes["work"]) < (2 << 20)
    assert 0 < int(sizes["lower"]) < (1 << 20)


def test_unknown_driver_is_refused(ctr: Ctr) -> None:
    assert "invalid argument" in ctr.fails("snapshots", "--snapshotter", "nope", "prepare", "x")


def test_diff_of_an_active_snapshot_is_a_layer(chain: Snapshots, tmp_path: Path) -> None:
    chain.out("prepare", "work", "upper")
    chain.write("work", "new", "text\n")
    answer = subprocess.run(
        chain.ctr.command(
            *chain.words, "diff", "--media-type", "application/vnd.oci.image.layer.v1.tar", "work"
        ),
        capture_output=True,
        timeout=60,
        check=False,
    )
    if b"not implemented" in answer.stderr:
        pytest.skip("this daemon does not compare yet")
    listed = subprocess.run(["tar", "-tf", "-"], input=answer.stdout, capture_output=True, check=True)
    assert listed.stdout.split() == [b"new"]
