"""Limits as files of the kernel tell them."""

from pathlib import Path

import pytest

from supervisor.doctor import limits, neighbours
from supervisor.doctor.finding import Verdict
from supervisor.doctor.place import Place
from supervisor.doctor.processes import UNLIMITED
from supervisor.kernel.files import locked
from tests.doctor.test_serving import listening


@pytest.mark.parametrize(
    ("soft", "verdict", "words"),
    [
        (1024, Verdict.NOTE, "about 320 containers"),
        (65536, Verdict.OK, "about 21824 containers"),
        (UNLIMITED, Verdict.OK, "any number"),
    ],
)
def test_open_files(soft: int, verdict: Verdict, words: str) -> None:
    found = limits.open_files_finding("the daemon", soft)
    assert found.verdict is verdict
    assert words in found.seen


def test_open_files_are_those_of_the_daemon(place: Place) -> None:
    assert limits.open_files(place).seen.startswith("a daemon started from here")
    place.root.mkdir()
    with locked(place.root / "lock"):
        assert limits.open_files(place).seen.startswith("the daemon may have")
        assert limits.oom_score(place).seen.startswith("the daemon has")
        assert limits.own_cgroup(place).verdict is not Verdict.FAILURE
    assert limits.own_cgroup(place) is None


def test_inotify_matters_with_v2_only(tmp_path: Path) -> None:
    (tmp_path / "max_user_instances").write_text("128\n")
    assert limits.inotify("hybrid", tmp_path) is None
    assert limits.inotify("v2", tmp_path).verdict is Verdict.NOTE
    (tmp_path / "max_user_instances").write_text("8192\n")
    assert limits.inotify("v2", tmp_path).verdict is Verdict.OK


@pytest.mark.parametrize(("value", "verdict"), [("4194304", Verdict.OK), ("4096", Verdict.NOTE)])
def test_process_ids(tmp_path: Path, value: str, verdict: Verdict) -> None:
    (tmp_path / "pid_max").write_text(f"{value}\n")
    assert limits.processes(tmp_path / "pid_max").verdict is verdict


def test_other_engines_are_those_that_listen(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    known = {"containerd": tmp_path / "s/c.sock", "Docker": tmp_path / "s/d.sock"}
    with listening(known["containerd"]):
        found = neighbours.engines(tmp_path / "own.sock", known)
        assert found.verdict is Verdict.NOTE
        assert "containerd" in found.seen
        assert "Docker" not in found.seen
        # Ours may listen where containerd's clients look for it.
        assert neighbours.engines(known["containerd"], known).verdict is Verdict.OK
    # A socket that was left behind is nobody.
    assert neighbours.engines(tmp_path / "own.sock", known).verdict is Verdict.OK


def test_descriptions_of_registries_can_be_read(tmp_path: Path) -> None:
    assert neighbours.registries(tmp_path / "none") is None
    (tmp_path / "good.example").mkdir()
    (tmp_path / "good.example/hosts.toml").write_text('server = "https://good.example"\n')
    assert neighbours.registries(tmp_path).verdict is Verdict.OK
    (tmp_path / "bad.example").mkdir()
    (tmp_path / "bad.example/hosts.toml").write_text("server = \n")
    found = neighbours.registries(tmp_path)
    assert found.verdict is Verdict.FAILURE
    assert "bad.example" in found.seen
