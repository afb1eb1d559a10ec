"""Layouts of cgroups, as the kernel's tables tell them."""

from pathlib import Path

import pytest

from supervisor.doctor import cgroups, runtimes
from supervisor.doctor.finding import Verdict
from tests.doctor.conftest import script

ALL = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"]


def read(folder: Path, v1: list[str], v2: str | None, taken: list[str] | None = None, flags: str = "rw"):
    """Tables of a machine with these controllers in each version, `taken` being attached to v1."""
    lines = [
        f"{number} 1 0:{number} / /sys/fs/cgroup/{name} {flags},relatime - cgroup cgroup rw,{name}"
        for number, name in enumerate(v1, start=30)
    ]
    lines.append("29 1 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd")
    if v2 is not None:
        (folder / "unified").mkdir()
        (folder / "unified/cgroup.controllers").write_text(f"{v2}\n")
        lines.append(f"50 1 0:50 / {folder}/unified {flags} shared:4 - cgroup2 cgroup2 rw,nsdelegate")
    (folder / "mountinfo").write_text("\n".join(lines) + "\n")
    rows = [
        f"{name}\t{number if name in (v1 if taken is None else taken) else 0}\t5\t1"
        for number, name in enumerate([*ALL, "hugetlb"], start=2)
    ]
    (folder / "cgroups").write_text(
        "\n".join(("#subsys_name\thierarchy\tnum_cgroups\tenabled", *rows)) + "\n"
    )
    return cgroups.read(folder / "mountinfo", folder / "cgroups")


def test_v1(tmp_path: Path) -> None:
    found = read(tmp_path, ALL, None)
    assert found.kind == "v1"
    assert cgroups.layout(found).verdict is Verdict.OK
    assert cgroups.controllers(found).verdict is Verdict.OK
    assert cgroups.hierarchies(found).verdict is Verdict.OK


def test_v2(tmp_path: Path) -> None:
    found = read(tmp_path, [], "cpu io memory pids")
    assert (found.kind, found.v2) == ("v2", {"cpu", "io", "memory", "pids"})
    assert cgroups.layout(found).verdict is Verdict.OK
    assert cgroups.controllers(found).verdict is Verdict.OK


def test_nothing_mounted(tmp_path: Path) -> None:
    assert cgroups.layout(read(tmp_path, [], None)).verdict is Verdict.FAILURE


def test_read_only(tmp_path: Path) -> None:
    found = cgroups.layout(read(tmp_path, [], "cpu memory pids", flags="ro"))
    assert found.verdict is Verdict.FAILURE
    assert "read-only" in found.seen


@pytest.mark.parametrize(
    ("v1", "v2", "verdict", "words"),
    [
        ([], "cpu io pids", Verdict.WARNING, "lacking: memory"),
        ([name for name in ALL if name != "memory"], None, Verdict.WARNING, "lacking: memory"),
        ([name for name in ALL if name != "devices"], None, Verdict.FAILURE, "runc starts nothing"),
        ([], "cpu memory pids", Verdict.OK, ""),  # v2 has devices without a controller
    ],
)
def test_controllers_that_lack(tmp_path: Path, v1: list[str], v2: str | None, verdict, words: str) -> None:
    found = cgroups.controllers(read(tmp_path, v1, v2))
    assert found.verdict is verdict
    assert words in found.seen


def test_a_hierarchy_attached_and_mounted_nowhere(tmp_path: Path) -> None:
    found = cgroups.hierarchies(read(tmp_path, ALL, "", taken=[*ALL, "hugetlb"]))
    assert found.verdict is Verdict.WARNING
    assert "hugetlb" in found.seen
    assert "mount -t cgroup -o hugetlb" in found.advice


@pytest.mark.parametrize(
    ("v1", "v2", "verdict"),
    [
        (ALL, "hugetlb", Verdict.WARNING),
        (ALL, "", Verdict.OK),
        ([], "cpu memory hugetlb", Verdict.OK),
        (ALL, None, Verdict.OK),
    ],
)
def test_crun_and_controllers_of_v2_beside_v1(tmp_path: Path, v1: list[str], v2: str | None, verdict) -> None:
    script(tmp_path / "bin/crun", "echo crun version 1.8.1", "echo spec: 1.0.0")
    found = runtimes.crun(str(tmp_path / "bin"), read(tmp_path, v1, v2))
    assert found.verdict is verdict
    assert "1.8.1" in found.seen
    assert ("hugetlb beside" in found.seen) is (verdict is Verdict.WARNING)


def test_this_machine_can_be_read() -> None:
    assert cgroups.layout(cgroups.read()).verdict is Verdict.OK
