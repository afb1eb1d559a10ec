"""Runtimes that hang, crash or are killed half way: a clear error, and a state from which delete works."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.types.runc.options.oci_pb2 import Options
from tests.compat.conftest import eventually_clean
from tests.conformance.cells import Cell
from tests.conformance.driving import Bench, holds
from tests.faults.conftest import a_bench
from tests.faults.records import record

SCRIPT = """\
#!/bin/sh
# runc that goes wrong in the command that stands in `fault`, in the way that stands there too.
read -r command way <{fault}
for word; do case $word in
    "$command") case $way in
        hang) exec sleep 1000;;
        crash) kill -SEGV $$;;
        late) runc "$@"; kill -KILL $$;;
        *) runc "$@" & child=$!; sleep "$way"; kill -KILL $child $$;;
    esac;;
    create|start|kill|delete|exec|pause|resume|ps|update) break;;
esac; done
exec runc "$@"
"""
LIMITS = "[timeouts]\n" + "".join(
    f"{name} = 1.5\n" for name in ("create", "start", "delete", "kill", "pause", "resume", "pids")
)


@dataclass(frozen=True, slots=True)
class Odd(Cell):
    """A cell whose runtime is the script."""

    script: str = ""

    @property
    def options(self) -> Options:
        """The options of its containers."""
        return Options(binary_name=self.script)


@dataclass(frozen=True, slots=True)
class Fault:
    """What the runtime is to do wrong."""

    file: Path

    def set(self, command: str, way: str) -> None:
        """From now on go wrong in this command."""
        self.file.write_text(f"{command} {way}\n")

    def clear(self) -> None:
        """Be a good runtime again."""
        self.set("none", "never")


@pytest.fixture
def fault(tmp_path: Path) -> Fault:
    made = Fault(tmp_path / "fault")
    made.clear()
    script = tmp_path / "oddc"
    script.write_text(SCRIPT.format(fault=made.file))
    script.chmod(0o755)
    return made


@pytest.fixture
def bench(fault: Fault) -> Iterator[Bench]:
    """A daemon with short limits and the odd runtime."""
    with a_bench(LIMITS, Odd("odd", "ours", script=str(fault.file.with_name("oddc")))) as made:
        yield made
        fault.clear()


def test_a_runtime_that_hangs_in_create(bench: Bench, fault: Fault) -> None:
    fault.set("create", "hang")
    box = bench.box("c", "sleep", "1000")
    refused = box.refused("Create", box.create_request())
    assert refused.code == "DEADLINE_EXCEEDED"
    assert "time" in refused.text
    assert not eventually_clean(bench.target, bench.api.namespace)
    fault.clear()
    assert box.create() > 0
    assert record(bench, "c").error in refused.text


@pytest.mark.parametrize("command", ["start", "delete", "pause"])
def test_a_runtime_that_hangs_later(bench: Bench, fault: Fault, command: str) -> None:
    """The call fails in time; when the runtime is well again the same call works."""
    box = bench.box("c", "sleep", "1000")
    box.create()
    steps = {
        "start": ("Start", pb.StartRequest(container_id="c")),
        "pause": ("Pause", pb.PauseTaskRequest(container_id="c")),
        "delete": ("Delete", pb.DeleteTaskRequest(container_id="c")),
    }
    if command == "pause":
        box.start()
    fault.set(command, "hang")
    assert box.refused(*steps[command]).code == "DEADLINE_EXCEEDED"
    assert box.status() in ("CREATED", "RUNNING", "PAUSING")
    fault.clear()
    box.call(*steps[command])


@pytest.mark.parametrize("way", ["crash", "late", "0", "0.01", "0.02", "0.03", "0.05"])
def test_a_runtime_that_is_killed_in_create(bench: Bench, fault: Fault, way: str) -> None:
    """Whether before, in the middle of, or after making the container."""
    fault.set("create", way)
    box = bench.box("c", "sleep", "1000")
    refused = box.refused("Create", box.create_request())
    assert refused.code == "UNKNOWN"
    assert "OCI runtime create failed" in refused.text
    assert box.refused("Get", pb.GetRequest(container_id="c")).code == "NOT_FOUND"
    assert not eventually_clean(bench.target, bench.api.namespace)
    fault.clear()
    box.create()
    box.start()
    assert box.status() == "RUNNING"


def test_a_runtime_that_crashes_in_exec(bench: Bench, fault: Fault) -> None:
    box = bench.running("c", "sleep", "1000")
    box.exec("e", "true")
    fault.set("exec", "crash")
    assert (
        "OCI runtime exec failed" in box.refused("Start", pb.StartRequest(container_id="c", exec_id="e")).text
    )
    assert "exec failed" in record(bench, "c", "e").error
    box.call("DeleteProcess", pb.DeleteProcessRequest(container_id="c", exec_id="e"))
    assert box.status() == "RUNNING"


def test_a_runtime_that_cannot_delete(bench: Bench, fault: Fault) -> None:
    """The error is told, the task stays, and a later delete is the last."""
    box = bench.running("c", "sleep", "1000")
    fault.set("delete", "crash")  # before the end, at which our shim deletes unasked
    box.end()
    assert "failed to delete task" in box.refused("Delete", pb.DeleteTaskRequest(container_id="c")).text
    assert box.status() == "STOPPED"
    fault.clear()
    assert box.delete().exit_status == 137
    holds(lambda: not bench.target.leftovers(bench.api.namespace), "a clean state")
