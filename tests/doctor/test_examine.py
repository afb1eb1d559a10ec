"""A check may do what it likes: there is a finding, in time, and nothing of the check stays."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from supervisor.doctor.examine import examine
from supervisor.doctor.finding import Check, Finding, Verdict, note, ok
from tests.compat.program import eventually


def examined(look, seconds: float = 30.0) -> Finding | None:
    return examine(Check("theme", "name", look, seconds))


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("finding", [ok("fine"), note("so", "do"), ok("x" * 300_000), None])
def test_what_a_check_answers_is_told(finding: Finding | None) -> None:
    assert examined(lambda: finding) == finding


def test_a_check_runs_in_another_process() -> None:
    assert examined(lambda: ok(str(os.getpid()))) != ok(str(os.getpid()))


def test_a_check_that_breaks_is_a_finding_that_says_where() -> None:
    def breaks() -> Finding:
        raise ValueError("no such thing")

    found = examined(breaks)
    assert found is not None
    assert found.verdict is Verdict.WARNING
    assert "test_examine.py" in found.seen
    assert "ValueError: no such thing" in found.seen


def test_what_only_root_may_see_is_said() -> None:
    def forbidden() -> Finding:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        os.open("/proc/1/environ", os.O_RDONLY)
        return ok("seen")

    found = examined(forbidden)
    assert found is not None
    assert found.verdict is Verdict.NOTE
    assert "may not use /proc/1/environ" in found.seen
    assert "root" in found.advice


def test_a_check_that_is_killed_is_a_finding() -> None:
    found = examined(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert found is not None
    assert (found.verdict, found.seen) == (Verdict.WARNING, "this check ended without an answer")


def test_a_check_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    def hangs() -> Finding:
        child = subprocess.Popen(["sleep", "1000"])
        (tmp_path / "half").write_text(f"{os.getpid()} {child.pid}")
        (tmp_path / "half").rename(tmp_path / "pids")
        while True:
            time.sleep(1000)

    found = examined(hangs, seconds=2.0)
    assert found is not None
    assert found.verdict is Verdict.FAILURE
    assert "no answer within 2 s" in found.seen
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    eventually(lambda: not any(map(exists, pids)), what="the end of the check's processes")


def test_what_a_check_leaves_running_is_ended_too(tmp_path: Path) -> None:
    found = examined(lambda: ok(str(subprocess.Popen(["sleep", "1000"]).pid)))
    assert found is not None
    eventually(lambda: not exists(int(found.seen)), what="the end of what the check left")


def test_what_a_check_prints_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    def prints() -> Finding:
        os.write(1, b"out")
        os.write(2, b"err")
        return ok("quiet")

    assert examined(prints) == ok("quiet")
    assert capfd.readouterr() == ("", "")
