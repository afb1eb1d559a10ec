"""The cgroup of a shim (contract: tasks 3.7)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.errors import NotFound
from supervisor.shimv2.runc.placement import join_cgroup


@pytest.fixture
def mounts(tmp_path: Path) -> str:
    lines = []
    for name, kind in (("cpu", "cgroup"), ("memory", "cgroup"), ("unified", "cgroup2"), ("other", "tmpfs")):
        (tmp_path / name / "there").mkdir(parents=True)
        lines.append(f"{kind} {tmp_path / name} {kind} rw 0 0\n")
    for name in ("cpu", "unified", "other"):
        (tmp_path / name / "there" / "cgroup.procs").touch()
    file = tmp_path / "mounts"
    file.write_text("".join(lines))
    return str(file)


def test_each_hierarchy_that_has_the_cgroup_is_joined(mounts: str, tmp_path: Path) -> None:
    join_cgroup("/there", os.getpid(), mounts)
    written = {
        name: (tmp_path / name / "there" / "cgroup.procs").read_text() for name in ("cpu", "unified", "other")
    }
    assert written == {"cpu": str(os.getpid()), "unified": str(os.getpid()), "other": ""}


def test_a_cgroup_that_does_not_exist(mounts: str) -> None:
    with pytest.raises(NotFound, match="cgroup nowhere for the shim"):
        join_cgroup("nowhere", os.getpid(), mounts)
