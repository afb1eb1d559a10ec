"""Output that goes to a program of the client's, in both versions of the protocol: contract tasks 3.6."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from tests.conformance.driving import Bench, Box, holds

SLEEP = ("sleep", "1000")
TALK = ("sh", "-c", "echo out; echo err >&2")

# It goes on until it has read all, though it is asked to end when its process is deleted.
BEGIN = """
trap '' TERM
cd {folder}
tr '\\0' '\\n' < /proc/$$/environ | sort > $CONTAINER_ID.env
echo "$@" > $CONTAINER_ID.args
echo $$ > $CONTAINER_ID.pid
"""
COPY = """
cat <&3 > $CONTAINER_ID.out &
cat <&4 > $CONTAINER_ID.err &
exec 3<&- 4<&-
wait
touch $CONTAINER_ID.done
"""
SAYS_READY = "echo >&5\nexec 5>&-\n"
CLOSES = "exec 5>&-\n"


class Loggers:
    """Programs in a folder, and what they wrote there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def program(self, ready: str, more: str = COPY) -> str:
        """A program; its path."""
        path = self.folder / "logger"
        path.write_text(f"#!/bin/sh\n{BEGIN.format(folder=self.folder)}{ready}{more}")
        path.chmod(0o755)
        return str(path)

    def read(self, name: str) -> str:
        """A file of a logger's."""
        return (self.folder / name).read_bytes().decode()  # with the ends of lines as they are

    def has(self, name: str) -> bool:
        """Whether that file is there."""
        return (self.folder / name).exists()

    def pids(self) -> list[int]:
        """Of the loggers that still run."""
        pids = [int(path.read_text()) for path in self.folder.glob("*.pid")]
        return [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]


@pytest.fixture
def loggers(tmp_path: Path, bench: Bench) -> Iterator[Loggers]:
    """They end with their containers, at the latest."""
    made = Loggers(tmp_path)
    yield made
    bench.clear()
    holds(lambda: not made.pids(), "the end of the loggers")


@pytest.fixture(params=["binary", "binary-v2"])
def scheme(request: pytest.FixtureRequest, bench: Bench) -> str:
    """A version of the protocol."""
    if request.param == "binary-v2" and bench.cell.shim != "ours":
        pytest.skip("this shim knows the first version only")
    return str(request.param)


def logged(box: Box, uri: str) -> Box:
    """Have a container made whose output goes there."""
    box.create(stdout=uri, stderr=uri)
    return box


def test_a_logger_gets_both_streams_and_is_told_whose(bench: Bench, loggers: Loggers, scheme: str) -> None:
    box = logged(bench.box("c", *TALK), f"{scheme}://{loggers.program(SAYS_READY)}?key=value")
    box.start()
    assert box.wait().exit_status == 0
    box.delete()
    holds(lambda: loggers.has("c.done"), "the end of the logger")
    assert (loggers.read("c.out"), loggers.read("c.err")) == ("out\n", "err\n")
    assert loggers.read("c.args") == "key value\n"
    environment = ["CONTAINER_ID=c", f"CONTAINER_NAMESPACE={bench.api.namespace}"]
    assert loggers.read("c.env").splitlines() == environment


def test_an_exec_has_a_logger_of_its_own(bench: Bench, loggers: Loggers, scheme: str) -> None:
    uri = f"{scheme}://{loggers.program(SAYS_READY)}"
    box = logged(bench.box("c", *SLEEP), uri)
    box.start()
    box.exec("e", *TALK, stdout=uri, stderr=uri)
    box.start("e")
    assert box.wait("e").exit_status == 0
    box.call("DeleteProcess", pb.DeleteProcessRequest(container_id="c", exec_id="e"))
    holds(lambda: loggers.has("e.done"), "the end of the exec's logger")
    assert (loggers.read("e.out"), loggers.read("e.err")) == ("out\n", "err\n")
    assert "CONTAINER_ID=e" in loggers.read("e.env")
    assert not loggers.has("c.done")
    assert box.status() == "RUNNING"


def test_a_terminal_goes_to_the_first_of_a_loggers_pipes(bench: Bench, loggers: Loggers, scheme: str) -> None:
    uri = f"{scheme}://{loggers.program(SAYS_READY)}"
    box = bench.box("c", *TALK, terminal=True)
    box.create(stdout=uri)
    box.start()
    assert box.wait().exit_status == 0
    box.delete()
    holds(lambda: loggers.has("c.done"), "the end of the logger")
    assert (loggers.read("c.out"), loggers.read("c.err")) == ("out\r\nerr\r\n", "")


def test_a_logger_goes_on_without_the_daemon(bench: Bench, loggers: Loggers, scheme: str) -> None:
    loop = "n=0; while [ ! -e /tmp/end ]; do n=$((n+1)); echo $n; sleep 0.01; done; echo end"
    box = logged(bench.box("c", "sh", "-c", loop), f"{scheme}://{loggers.program(SAYS_READY)}")
    box.start()
    bench.target.kill()
    holds(lambda: loggers.has("c.out") and len(loggers.read("c.out").split()) > 5, "output meanwhile")
    so_far = len(loggers.read("c.out").split())
    holds(lambda: len(loggers.read("c.out").split()) > so_far + 5, "more of it")
    bench.target.start()
    (bench.rootfs / "tmp/end").touch()
    assert box.wait().exit_status == 0
    (bench.rootfs / "tmp/end").unlink()
    box.delete()
    holds(lambda: loggers.has("c.done"), "the end of the logger")
    lines = loggers.read("c.out").split()
    assert lines == [*(str(number) for number in range(1, len(lines))), "end"]


def test_the_first_version_is_ready_when_it_closes(bench: Bench, loggers: Loggers) -> None:
    box = logged(bench.box("c", *TALK), f"binary://{loggers.program(CLOSES)}")
    box.start()
    box.wait()
    box.delete()
    holds(lambda: loggers.has("c.done"), "the end of the logger")
    assert loggers.read("c.out") == "out\n"


def test_the_second_version_must_say_that_it_is_ready(bench: Bench, loggers: Loggers) -> None:
    box = bench.box("c", *TALK)
    uri = f"binary-v2://{loggers.program(CLOSES)}"
    told = box.refused("Create", box.create_request(stdout=uri, stderr=uri)).text
    expected = "did not call ready" if bench.cell.shim == "ours" else "unknown STDIO scheme binary-v2"
    assert expected in told
    holds(lambda: not loggers.pids(), "the end of the logger")
    box.create()  # nothing of it is left


def test_a_logger_that_is_not_there(bench: Bench, loggers: Loggers) -> None:
    box = bench.box("c", *TALK)
    uri = f"binary://{loggers.folder}/none"
    told = box.refused("Create", box.create_request(stdout=uri, stderr=uri)).text
    assert "no such file or directory" in told
    box.create()


def test_a_logger_that_dies_is_not_the_end_of_the_container(bench: Bench, loggers: Loggers) -> None:
    """It writes into a pipe that nobody reads any more, as a program in a shell's pipeline does."""
    script = "sleep 0.05; while echo x; do :; done; while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 7"
    trap = f"trap '' PIPE; {script}"
    box = logged(bench.box("c", "sh", "-c", trap), f"binary://{loggers.program(SAYS_READY, '')}")
    holds(lambda: not loggers.pids(), "the death of the logger")
    box.start()
    assert box.status() == "RUNNING"
    (bench.rootfs / "tmp/end").touch()
    assert box.wait().exit_status == 7
    (bench.rootfs / "tmp/end").unlink()
    assert box.delete().exit_status == 7


def test_what_a_failed_create_had_for_a_logger_ends(bench: Bench, loggers: Loggers, scheme: str) -> None:
    box = bench.box("c", "/no/such/program")
    uri = f"{scheme}://{loggers.program(SAYS_READY)}"
    assert box.refused("Create", box.create_request(stdout=uri, stderr=uri))
    holds(lambda: not loggers.pids(), "the end of the logger")
    assert loggers.has("c.pid")
