"""Moving oneself to where one is: nothing changes, nothing fails, and one at a time is enough."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.kernel import cgroup_moves
from supervisor.kernel.cgroup import UNIFIED, Cgroup
from supervisor.kernel.cgroup_moves import expect_move


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Where this process was found in other tests."""
    cgroup_moves._folder.cache_clear()
    yield
    cgroup_moves._folder.cache_clear()


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file that is written to, in place of the kernel's."""
    file = tmp_path / "cgroup.procs"
    file.touch()
    monkeypatch.setattr(
        cgroup_moves, "cgroup_of", lambda pid: Cgroup({"pids": "/none", UNIFIED: str(tmp_path)})
    )
    return file


@pytest.mark.root
def test_a_process_stays_where_it_is() -> None:
    before = Path("/proc/self/cgroup").read_text()
    expect_move()
    assert Path("/proc/self/cgroup").read_text() == before


def test_the_unified_hierarchy_is_taken_where_there_are_several(members: Path) -> None:
    expect_move()
    assert members.read_text() == "0"


def test_any_hierarchy_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").touch()
    monkeypatch.setattr(cgroup_moves, "cgroup_of", lambda pid: Cgroup({"pids": str(tmp_path)}))
    expect_move()
    assert (tmp_path / "cgroup.procs").read_text() == "0"


@pytest.mark.parametrize("folders", [{}, {UNIFIED: "/nowhere"}])
def test_a_host_without_cgroups_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, folders: dict[str, str]
) -> None:
    monkeypatch.setattr(cgroup_moves, "cgroup_of", lambda pid: Cgroup(folders))
    expect_move()
    expect_move()


def test_who_comes_while_another_waits_does_not_wait_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "cgroup.procs")  # opened only when somebody reads
    monkeypatch.setattr(cgroup_moves, "cgroup_of", lambda pid: Cgroup({UNIFIED: str(tmp_path)}))
    waiting = threading.Thread(target=expect_move)
    waiting.start()
    while not cgroup_moves._moving.locked():
        pass
    expect_move()
    assert waiting.is_alive()
    assert (tmp_path / "cgroup.procs").read_bytes() == b"0"
    waiting.join()


def test_a_process_that_was_moved_is_looked_for_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, members: Path
) -> None:
    expect_move()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "cgroup.procs").touch()
    (tmp_path / "membership").write_text("0::/elsewhere\n")
    monkeypatch.setattr(cgroup_moves, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(cgroup_moves, "cgroup_of", lambda pid: Cgroup({UNIFIED: str(elsewhere)}))
    expect_move()
    assert (elsewhere / "cgroup.procs").read_text() == "0"
