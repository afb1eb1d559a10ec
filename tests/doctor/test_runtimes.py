"""Runtimes and shims on a search path of the test's own."""

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.doctor import cgroups, runtimes
from supervisor.doctor.finding import Verdict
from supervisor.doctor.place import Place
from supervisor.doctor.programs import Unusable, asked
from tests.doctor.conftest import script


def test_a_program_that_hangs_is_killed(tmp_path: Path) -> None:
    program = script(tmp_path / "runc", "exec sleep 1000")
    with pytest.raises(Unusable, match=r"no answer within 0\.5 s, and was killed"):
        asked(program, "--version", seconds=0.5)


def test_no_runc(tmp_path: Path) -> None:
    found = runtimes.runc(str(tmp_path))
    assert found.verdict is Verdict.FAILURE
    assert str(tmp_path) in found.seen


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("1.1.12", Verdict.NOTE),
        ("1.2.7", Verdict.NOTE),
        ("1.2.8", Verdict.OK),
        ("1.3.2+ds1", Verdict.NOTE),
        ("1.3.3+ds1", Verdict.OK),
        ("1.4.0", Verdict.OK),
    ],
)
def test_the_version_of_runc(tmp_path: Path, version: str, verdict: Verdict) -> None:
    script(tmp_path / "runc", f"echo runc version {version}", "echo spec: 1.2.0")
    found = runtimes.runc(str(tmp_path))
    assert found.verdict is verdict
    assert f"{version}, OCI spec 1.2.0" in found.seen


@pytest.mark.parametrize("lines", [("exit 3",), ("echo something else",)])
def test_a_runc_that_is_none(tmp_path: Path, lines: tuple[str, ...]) -> None:
    script(tmp_path / "runc", *lines)
    assert runtimes.runc(str(tmp_path)).verdict is Verdict.FAILURE


def test_a_runc_that_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "runc").write_text("#!/no/such/shell\n")
    (tmp_path / "runc").chmod(0o755)
    found = runtimes.runc(str(tmp_path))
    assert found.verdict is Verdict.FAILURE
    assert "cannot be run" in found.seen


@pytest.mark.compat
def test_the_runc_of_this_machine() -> None:
    found = runtimes.runc("/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert found.verdict in (Verdict.OK, Verdict.NOTE)
    assert "runc, 1." in found.seen


def test_crun_is_an_option(tmp_path: Path) -> None:
    hybrid = cgroups.Cgroups(frozenset(("cpu",)), tmp_path, frozenset(("hugetlb",)), frozenset())
    assert runtimes.crun(str(tmp_path), hybrid).verdict is Verdict.OK


@pytest.mark.root
@pytest.mark.parametrize(
    ("lines", "verdict", "words"),
    [
        (("echo Looks good.",), Verdict.OK, "works"),
        (("echo 'Error: kernel too new'", "exit 1"), Verdict.NOTE, "kernel too new"),
        (("exit 1",), Verdict.NOTE, "says nothing"),
        (None, Verdict.NOTE, "not installed"),
    ],
)
def test_criu_is_for_checkpoints_only(tmp_path: Path, lines, verdict: Verdict, words: str) -> None:
    if lines:
        script(tmp_path / "criu", *lines)
    found = runtimes.criu(str(tmp_path))
    assert found.verdict is verdict
    assert words in found.seen


def test_our_own_shim_runs(place: Place) -> None:
    found = runtimes.shim("io.containerd.runc.v2", place)
    assert found.verdict is Verdict.OK
    assert "containerd-shim-oci-v2" in found.seen


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("io.containerd.nobody.v1", "containerd-shim-nobody-v1"), ("/no/such/shim", "/no/such/shim")],
)
def test_a_shim_that_is_not_there(place: Place, wanted: str, words: str) -> None:
    found = runtimes.shim("io.kata.v2", replace(place, runtimes={"io.kata.v2": wanted}))
    assert found.verdict is Verdict.FAILURE
    assert words in found.seen
    assert "[runtime.shims]" in found.advice


@pytest.mark.parametrize(("mode", "lines"), [(0o644, ()), (0o755, ("exit 2",))])
def test_a_shim_that_does_not_run(place: Place, tmp_path: Path, mode: int, lines: tuple[str, ...]) -> None:
    program = script(tmp_path / "shim", *lines)
    program.chmod(mode)
    found = runtimes.shim("x.y", replace(place, runtimes={"x.y": str(program)}))
    assert found.verdict is not Verdict.OK


def test_every_configured_name_is_asked(place: Place) -> None:
    names = [check.name for check in runtimes.checks(replace(place, runtimes={"io.kata.v2": "/x"}))]
    assert names == ["runc", "crun", "criu", "io.containerd.runc.v2", "io.containerd.oci.v2", "io.kata.v2"]


def test_programs_in_the_roots_own_folder_are_found_first(place: Place) -> None:
    own = script(place.root / "opt/bin/runc", "echo runc version 9.9.9")
    assert runtimes.runc(place.search_path()).seen.startswith(str(own))
