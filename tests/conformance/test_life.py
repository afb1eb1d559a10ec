"""Create, start, wait, kill, delete: contract tasks 3.2 to 3.4 and the rows of 8 that speak of them."""

from __future__ import annotations

import json
from pathlib import Path

import grpc

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.model.instant import GO_ZERO_SECONDS
from tests.conformance.driving import Bench, Box, holds

SLEEP = ("sleep", "1000")


def gone(box: Box) -> bool:
    """Whether a further Get finds no task."""
    return box.refused("Get", pb.GetRequest(container_id=box.id)).code == "NOT_FOUND"


def test_row_1_and_2_wait_blocks_until_the_exit_and_then_answers_the_same(bench: Bench) -> None:
    box = bench.box("c", "sh", "-c", "exit 7")
    box.create()
    early = box.waiting()
    assert box.start() > 0
    first = early.result()
    assert first.exit_status == 7
    for _ in range(3):
        assert box.wait() == first
    assert box.delete().exited_at == first.exited_at


def test_row_3_a_wait_that_is_given_up_changes_nothing(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    waiting = box.waiting()
    waiting.cancel()
    assert box.status() == "RUNNING"
    assert box.end() == 137


def test_row_4_and_6_and_7_delete(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    delete = pb.DeleteTaskRequest(container_id="c")
    assert "cannot delete a running process" in box.refused("Delete", delete).text
    assert box.status() == "RUNNING"
    pid = box.get().pid
    assert box.end() == 137
    ended = box.get()
    answer = box.delete()
    assert (answer.pid, answer.exit_status, answer.exited_at) == (pid, 137, ended.exited_at)
    assert box.refused("Delete", delete).code == "NOT_FOUND"


def test_3_2_a_created_task_is_deleted_with_its_process(bench: Bench) -> None:
    box = bench.box("c", *SLEEP)
    pid = box.create()
    assert box.status() == "CREATED"
    assert box.delete().exit_status == 0
    holds(lambda: not Path(f"/proc/{pid}").exists(), "the end of the process")
    assert gone(box)


def test_row_8_and_9_kill_of_what_has_ended(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    assert box.end() == 137
    assert box.refused("Kill", box.kill_request()).code == "NOT_FOUND"
    assert box.wait().exit_status == 137


def test_row_17_without_a_task(bench: Bench) -> None:
    box = bench.box("c", *SLEEP)
    assert gone(box)
    for method, request in (
        ("Start", pb.StartRequest(container_id="c")),
        ("Kill", box.kill_request()),
        ("Wait", pb.WaitRequest(container_id="c")),
        ("Delete", pb.DeleteTaskRequest(container_id="c")),
        ("ListPids", pb.ListPidsRequest(container_id="c")),
        ("Exec", box.exec_request("e", "true")),
    ):
        assert box.refused(method, request).code == "NOT_FOUND", method


def test_row_23_a_created_process_lives_with_its_namespaces(bench: Bench) -> None:
    box = bench.box("c", *SLEEP)
    pid = box.create()
    assert {name.name for name in Path(f"/proc/{pid}/ns").iterdir()} >= {"net", "pid", "mnt"}
    assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert box.start() == pid


def test_row_24_start_tells_a_pid_even_of_what_ends_at_once(bench: Bench) -> None:
    for number in range(3):
        assert bench.running(f"c{number}", "true").wait().exit_status == 0


def test_row_27_names_are_taken(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    assert box.refused("Create", box.create_request()).code == "ALREADY_EXISTS"
    box.exec("e", *SLEEP)
    assert box.refused("Exec", box.exec_request("e", "true")).code == "ALREADY_EXISTS"


def test_row_28_and_34_what_the_runtime_says_reaches_the_client_and_nothing_is_left(bench: Bench) -> None:
    box = bench.box("c", "/no/such/program")
    said = box.refused("Create", box.create_request()).text
    assert "no such file or directory" in said.lower() or "not found" in said
    assert gone(box)
    # The same container again, at once: neither bundle, nor runtime's state, nor cgroup is in the way.
    assert "already exists" not in box.refused("Create", box.create_request()).text


def test_row_35_runtime_path_takes_the_place_of_the_name(bench: Bench) -> None:
    box = bench.box("c", *SLEEP, runtime="io.containerd.nope.v9")
    assert "containerd-shim-nope-v9" in box.refused("Create", box.create_request()).text
    request = box.create_request()
    request.runtime_path = bench.cell.shim_path
    assert box.call("Create", request).pid > 0


def test_row_37_times(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    before = box.get().exited_at
    assert before.seconds in (0, GO_ZERO_SECONDS)
    box.end()
    ended = box.get().exited_at
    assert ended.seconds > 1_600_000_000
    assert ended == box.wait().exited_at


def test_row_38_killed_between_create_and_start(bench: Bench) -> None:
    box = bench.box("c", *SLEEP)
    box.create()
    assert box.end() == 137
    assert box.status() == "STOPPED"
    assert box.refused("Start", pb.StartRequest(container_id="c"))
    assert box.delete().exit_status == 137


def test_row_40_long_names(bench: Bench) -> None:
    box = bench.running("c" * 64, "true")
    assert box.wait().exit_status == 0


def test_3_2_moves_that_a_state_does_not_allow(bench: Bench) -> None:
    box = bench.box("c", *SLEEP)
    box.create()
    start, pause, resume = (
        ("Start", pb.StartRequest(container_id="c")),
        ("Pause", pb.PauseTaskRequest(container_id="c")),
        ("Resume", pb.ResumeTaskRequest(container_id="c")),
    )
    for move in (pause, resume):
        assert box.refused(*move)
        assert box.status() == "CREATED"
    box.start()
    for move in (start, resume):
        assert box.refused(*move)
        assert box.status() == "RUNNING"
    box.call(*pause)
    assert box.status() == "PAUSED"
    delete = ("Delete", pb.DeleteTaskRequest(container_id="c"))
    for move in (start, pause, delete, ("Exec", box.exec_request("e", "true"))):
        assert box.refused(*move)
        assert box.status() == "PAUSED"
    box.call(*resume)
    assert box.status() == "RUNNING"
    box.end()
    for move in (start, pause, resume):
        assert box.refused(*move)
        assert box.status() == "STOPPED"


def test_signals(bench: Bench) -> None:
    script = "trap 'exit 5' TERM; while :; do sleep 0.05; done"
    box = bench.running("c", "sh", "-c", script)
    box.kill(0)
    # A first process is deaf to a signal until it asks for it.
    request = box.kill_request(15)

    def asked() -> bool:
        try:
            box.call("Kill", request)
        except grpc.RpcError:
            return True
        return box.status() == "STOPPED"

    holds(asked, "the trap to be set and sprung")
    assert box.wait().exit_status == 5


def test_kill_of_every_process(bench: Bench) -> None:
    box = bench.running("c", "sh", "-c", "sleep 1000 & sleep 1000 & wait")
    holds(lambda: len(box.pids()) == 3, "three processes")
    pids = box.pids()
    box.kill(every=True)
    assert box.wait().exit_status == 137
    holds(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the end of all")
    if bench.cell.name != "go-crun":  # crun 1.8 crashes when asked for the processes of what has ended
        assert box.pids() == []


def test_update_changes_a_limit_and_needs_resources(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    group = next(Path("/sys/fs/cgroup").glob(f"pids/{bench.api.namespace}/c"), None) or next(
        Path("/sys/fs/cgroup").glob(f"{bench.api.namespace}/c")
    )
    request = pb.UpdateTaskRequest(container_id="c")
    assert box.refused("Update", request).code == "INVALID_ARGUMENT"
    request.resources.type_url = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
    request.resources.value = json.dumps({"pids": {"limit": 123}}).encode()
    box.call("Update", request)
    assert (group / "pids.max").read_text() == "123\n"
    assert box.status() == "RUNNING"


def test_row_30_metrics_of_one_task(bench: Bench) -> None:
    box, other = bench.running("c", *SLEEP), bench.running("d", *SLEEP)
    request = pb.MetricsRequest(filters=["id==c"])
    (metric,) = box.call("Metrics", request).metrics
    assert metric.id == "c"
    assert metric.data.type_url in ("io.containerd.cgroups.v1.Metrics", "io.containerd.cgroups.v2.Metrics")
    box.end()
    box.delete()
    assert not other.call("Metrics", request).metrics
