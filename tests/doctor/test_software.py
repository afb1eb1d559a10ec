"""Packages of prepared environments, and those of this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.doctor import software
from supervisor.doctor.finding import Verdict


def installed(folder: Path, name: str, version: str, *requirements: str) -> None:
    """The record that an installed package leaves."""
    record = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    record.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requirements]
    (record / "METADATA").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_this_environment_is_complete() -> None:
    found = software.packages(software.DISTRIBUTION)
    assert found.verdict is Verdict.OK, found
    assert "all 13 packages" in found.seen


@pytest.mark.parametrize(
    ("requirement", "complaint"),
    [
        ("lib-a>=2.0", ""),
        ("lib-a>=2", ""),
        ("lib-a (>=1.9,<3)", ""),
        ("lib-a==2.0.0", ""),
        ("lib-a~=9.0", ""),  # left to pip
        ("lib-a>=2.0.1", "lib-a 2.0 is not >=2.0.1"),
        ("lib-a<2,>=1", "lib-a 2.0 is not <2"),
        ("lib-b>=1", "lib-b is not installed"),
        ("lib-b>=1; extra == 'dev'", ""),
    ],
)
def test_each_requirement_is_held_against_what_is_there(site: Path, requirement: str, complaint: str) -> None:
    installed(site, "lib-a", "2.0")
    installed(site, "whole", "1.0", requirement)
    found = software.packages("whole")
    if complaint:
        assert (found.verdict, found.seen) == (Verdict.FAILURE, complaint)
    else:
        assert found.verdict is Verdict.OK, found


def test_a_module_that_cannot_be_loaded_is_named(site: Path) -> None:
    (site / "broken_part.py").write_text("import no_such_library\n")
    found = software.modules(("json", "broken_part"))
    assert found.verdict is Verdict.FAILURE
    assert "broken_part" in found.seen
    assert "no_such_library" in found.seen
    assert software.modules(("json",)).verdict is Verdict.OK


def test_the_other_program_of_that_name_is_noticed(site: Path) -> None:
    assert software.name_clash().verdict is Verdict.OK
    installed(site, "supervisor", "4.2.5")
    found = software.name_clash()
    assert found.verdict is Verdict.FAILURE
    assert "4.2.5" in found.seen


@pytest.mark.parametrize(
    ("version", "verdict", "words"),
    [
        ((3, 34, 1), Verdict.FAILURE, "3.35"),
        ((3, 40, 1), Verdict.OK, "two writers"),
        ((3, 51, 2), Verdict.OK, "two writers"),
        ((3, 51, 3), Verdict.OK, "3.51.3"),
    ],
)
def test_sqlite(version: tuple[int, ...], verdict: Verdict, words: str) -> None:
    found = software.sqlite(version)
    assert found.verdict is verdict
    assert words in found.seen
    assert ("two writers" in found.seen) is (words == "two writers")


def test_protobuf_in_pure_python_is_a_warning() -> None:
    code = "from supervisor.doctor.software import protobuf as p; print(p().verdict, p().seen)"
    told = {
        kind: subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": kind},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for kind in ("upb", "python")
    }
    assert told["upb"].startswith("ok")
    assert told["python"].startswith("warning")
