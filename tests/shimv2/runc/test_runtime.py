"""The runtime's command lines, noted by a script, and the words of its failures (contract: tasks 7)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from supervisor.errors import NotFound, SupervisorError
from supervisor.shimv2.runc.options import Options
from supervisor.shimv2.runc.runtime import Runtime

SCRIPT = """#!/bin/sh
printf '%s\\n' "$*" >> "{folder}/lines"
[ -f "{folder}/reply" ] && . "{folder}/reply"
exit 0
"""


class Recorded:
    """A runtime that is a script: it notes its arguments, then does what `reply` says."""

    def __init__(self, folder: Path, **options: bool) -> None:
        self.folder = folder
        script = folder / "runtime"
        script.write_text(SCRIPT.format(folder=folder))
        script.chmod(0o755)
        chosen = Options(binary_name=str(script), root="/R", **options)  # type: ignore[arg-type]
        self.runtime = Runtime(chosen, "ns", str(folder))

    def reply(self, shell: str) -> None:
        (self.folder / "reply").write_text(shell)

    def line(self) -> str:
        """The last command line, without what every one begins with."""
        line = (self.folder / "lines").read_text().replace(str(self.folder), "B").splitlines()[-1]
        return line.removeprefix("--root /R/ns --log B/log.json --log-format json ")


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def test_command_lines(recorded: Recorded) -> None:
    """Tasks 7.1."""
    runtime = recorded.runtime
    runtime.create("c1", "B/init.pid", {})
    assert recorded.line() == "create --bundle B --pid-file B/init.pid c1"
    runtime.create("c1", "B/init.pid", {}, "/s")
    assert recorded.line() == "create --bundle B --pid-file B/init.pid --console-socket /s c1"
    runtime.start("c1")
    assert recorded.line() == "start c1"
    runtime.exec("c1", "B/p.json", "B/p.pid", {}, "/s")
    assert recorded.line() == "exec --process B/p.json --console-socket /s --detach --pid-file B/p.pid c1"
    runtime.kill("c1", signal.SIGTERM)
    assert recorded.line() == "kill c1 15"
    runtime.kill("c1", 9, everything=True)
    assert recorded.line() == "kill --all c1 9"
    runtime.pause("c1")
    assert recorded.line() == "pause c1"
    runtime.resume("c1")
    assert recorded.line() == "resume c1"
    runtime.delete("c1")
    assert recorded.line() == "delete c1"
    runtime.delete("c1", force=True)
    assert recorded.line() == "delete --force c1"


def test_options_become_flags(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, no_pivot_root=True, no_new_keyring=True, systemd_cgroup=True)
    recorded.runtime.create("c1", "B/init.pid", {})
    expected = "--systemd-cgroup create --bundle B --pid-file B/init.pid --no-pivot --no-new-keyring c1"
    assert recorded.line() == expected


def test_ps_and_update(recorded: Recorded) -> None:
    recorded.reply("echo '[1,\n 22]'")
    assert recorded.runtime.pids("c1") == [1, 22]
    recorded.reply("echo null")
    assert recorded.runtime.pids("c1") == []
    recorded.reply("echo nonsense")
    with pytest.raises(SupervisorError, match="printed no list of pids"):
        recorded.runtime.pids("c1")
    recorded.reply('cat > "${0%/*}/fed"')
    recorded.runtime.update("c1", b'{"pids":{}}')
    assert (recorded.folder / "fed").read_bytes() == b'{"pids":{}}'
    assert recorded.line() == "update --resources=- c1"


def test_a_failure_is_explained_by_what_its_own_run_logged(recorded: Recorded) -> None:
    """Tasks 7.2: the last entry of level error; an entry of an earlier command explains nothing."""
    recorded.reply(
        """printf '%s\\n' '{"level":"error","msg":"first"}' '{"level":"warning","msg":"no"}' \\
        '{"level":"error","msg":"the cause"}' >> "${0%/*}/log.json"; exit 1"""
    )
    with pytest.raises(SupervisorError, match=r"^OCI runtime start failed: the cause$"):
        recorded.runtime.start("c1")
    recorded.reply("echo said; exit 5")
    with pytest.raises(SupervisorError, match=r"start failed: \S+ did not .*: exit status 5: said$"):
        recorded.runtime.start("c1")


def test_a_failure_without_a_log(recorded: Recorded) -> None:
    recorded.reply("exit 5")
    with pytest.raises(SupervisorError, match=r"unable to retrieve OCI runtime error \(open .*json: no such"):
        recorded.runtime.start("c1")


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        ("container not running", NotFound, "process already finished"),
        ("process not running: No such process", NotFound, "process already finished"),
        ("container does not exist", NotFound, "no such container"),
        ("error opening file `/x/status`: No such file", NotFound, "no such container"),
        ("unknown signal", SupervisorError, "unknown error after kill: "),
    ],
)
def test_failures_of_kill(recorded: Recorded, said: str, error: type[SupervisorError], text: str) -> None:
    """Tasks 7.4: read by meaning, whichever runtime said it."""
    recorded.reply(f"echo '{said}'; exit 1")
    with pytest.raises(error, match=text) as raised:
        recorded.runtime.kill("c1", 9)
    assert type(raised.value) is error


def test_deleting_what_the_runtime_does_not_know_is_no_failure(recorded: Recorded) -> None:
    recorded.reply("echo 'container c1 does not exist'; exit 1")
    recorded.runtime.delete("c1")


def test_the_environment_has_no_notify_socket(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/x")
    recorded.reply('[ -z "$NOTIFY_SOCKET" ]; exit $?')
    recorded.runtime.start("c1")


def test_a_missing_runtime(tmp_path: Path) -> None:
    runtime = Runtime(Options(binary_name="nope-runtime"), "ns", str(tmp_path))
    with pytest.raises(SupervisorError, match='exec: "nope-runtime": executable file not found in '):
        runtime.start("c1")
