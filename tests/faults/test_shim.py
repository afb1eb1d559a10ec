"""A shim that dies: noticed at once, told, cleaned up, on record (contract tasks 4.5)."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from tests.compat.conftest import eventually_clean
from tests.conformance.driving import Bench, Box, Output, holds
from tests.faults.records import record

SLEEP = ("sleep", "1000")


def shim_of(box: Box) -> int:
    """The parent of a container's first process."""
    return int(Path(f"/proc/{box.get().pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_killed_shim_is_noticed_told_and_cleaned_up(bench: Bench, output: Output) -> None:
    with bench.listening() as listener:
        box = bench.box("c", *SLEEP)
        pid = box.create(stdout=output.path, stderr=output.path)
        box.start()
        box.exec("e", *SLEEP)
        run = box.start("e")
        waiting, other = box.waiting(), bench.running("d", *SLEEP)
        os.kill(shim_of(box), signal.SIGKILL)
        assert waiting.result().exit_status == 137
        seen = listener.until("c", "/tasks/delete")
    assert [told.topic for told in seen][-2:] == ["/tasks/exit", "/tasks/delete"]
    assert [told.of for told in seen if told.topic == "/tasks/exit"] == ["c"]
    assert box.refused("Get", pb.GetRequest(container_id="c")).code == "NOT_FOUND"
    holds(lambda: not any(Path(f"/proc/{one}").exists() for one in (pid, run)), "the end of its processes")
    assert output.to_end() == b""
    ended = record(bench, "c")
    assert (ended.exit_status, ended.deleted, "shim died" in ended.error) == (137, True, True)
    assert ended.HasField("started_at")
    # The name is free again, and nobody else was touched.
    assert box.create() > 0
    assert other.status() == "RUNNING"
    assert record(bench, "c").sequence == ended.sequence


def test_a_shim_killed_while_no_daemon_was_there(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    other = bench.running("d", *SLEEP)
    shim = shim_of(box)
    bench.target.kill()
    os.kill(shim, signal.SIGKILL)
    bench.target.start()
    holds(lambda: box.refused("Get", pb.GetRequest(container_id="c")).code == "NOT_FOUND", "its clean-up")
    assert "shim died" in record(bench, "c").error
    assert other.status() == "RUNNING"


def test_shims_killed_while_they_make_a_task(bench: Bench) -> None:
    """At no moment of a create does a dead shim leave anything, or a task in between."""
    for number in range(8):
        box = bench.box(f"c{number}", *SLEEP)
        making = bench.api.tasks.Create.future(
            box.create_request(), metadata=bench.api.metadata(), timeout=60
        )
        holds(partial(is_served, box, making), "a shim")
        time.sleep(number * 0.004)  # which moment is hit is the point, nothing waits for it
        kill_shims(box)
        error = making.exception()
        if error is not None:
            assert "shim" in error.details()
        # One that was born while we looked is killed now, with its task made.
        holds(partial(is_gone, box), "the end of the task")
        holds(partial(is_clean, bench), "a clean state")
    assert bench.running("last", "true").wait().exit_status == 0


def is_served(box: Box, making: grpc.Future) -> bool:
    return bool(shims(box)) or making.done()


def is_gone(box: Box) -> bool:
    """Kill its shim if there is one; whether no task is left."""
    kill_shims(box)
    answer = box.bench.api.call(box.bench.api.tasks.List, pb.ListTasksRequest())
    return box.id not in {one.id for one in answer.tasks}


def is_clean(bench: Bench) -> bool:
    return not bench.target.leftovers(bench.api.namespace)


def shims(box: Box) -> list[int]:
    """The processes that serve a container, or are about to."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").split()
        except OSError:
            continue
        # Not who cleans up after one: that is begun again three times only.
        if box.id in words and str(box.bench.target.address) in words and words[-1] != "delete":
            found.append(int(place.name))
    return found


def kill_shims(box: Box) -> None:
    for pid in shims(box):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_bundle_that_was_removed_under_a_task(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    bundle = bench.target.state / "io.containerd.runtime.v2.task" / bench.api.namespace / "c"
    for name in ("config.json", "init.pid", "options.json", "runtime"):
        (bundle / name).unlink(missing_ok=True)
    assert box.status() == "RUNNING"
    assert box.end() == 137
    assert box.delete().exit_status == 137
    assert not eventually_clean(bench.target, bench.api.namespace)
