"""Exits are explained, also after the task is gone and the daemon was killed."""

from __future__ import annotations

import subprocess
import sys

import grpc
import pytest

from supervisor.api.services.supervisor import exits_pb2 as pb
from supervisor.api.services.supervisor.exits_pb2_grpc import ExitsStub
from tests.conformance.driving import Bench, holds
from tests.faults.records import record

SLEEP = ("sleep", "1000")


def test_records_outlive_tasks_and_daemons(bench: Bench) -> None:
    box = bench.running("c", "sh", "-c", "exit 7")
    pid = box.get().pid
    box.wait()
    box.delete()
    bench.target.kill()
    bench.target.start()
    found = record(bench, "c")
    assert (found.pid, found.exit_status, found.signal, found.oom_killed, found.error, found.deleted) == (
        pid,
        7,
        0,
        False,
        "",
        True,
    )
    assert 0 < found.started_at.ToNanoseconds() <= found.exited_at.ToNanoseconds()


def test_a_signal_is_told_from_a_code_of_the_same_number(bench: Bench) -> None:
    killed, pretending = bench.running("c", *SLEEP), bench.running("d", "sh", "-c", "exit 137")
    assert (killed.end(), pretending.wait().exit_status) == (137, 137)
    holds(lambda: record(bench, "c").signal == 9, "the record")
    holds(lambda: record(bench, "d").exit_status == 137, "the record")
    assert record(bench, "d").signal == 0


def test_want_of_memory_is_named(bench: Bench) -> None:
    memory = {"resources": {"memory": {"limit": 16 << 20, "swap": 16 << 20}}}
    script = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
    box = bench.running("c", "sh", "-c", script, linux=memory)
    assert box.wait().exit_status == 137
    holds(lambda: record(bench, "c").oom_killed, "word of the want of memory")
    told = sctr(bench, "exits", "c")
    assert "killed by signal 9 (SIGKILL): out of memory" in told
    assert "out of memory" in sctr(bench, "ps", "-a")


def test_what_never_ran_says_why(bench: Bench) -> None:
    box = bench.box("c", "/no/such/program")
    refused = box.refused("Create", box.create_request())
    found = record(bench, "c")
    assert found.error == refused.text
    assert (found.pid, found.exit_status, found.HasField("started_at")) == (0, 255, False)
    assert "/no/such/program" in sctr(bench, "ps", "-a")


def test_lists(bench: Bench) -> None:
    for number in range(3):
        box = bench.running(f"c{number}", "sh", "-c", f"exit {number}")
        box.wait()
        box.delete()
    with grpc.insecure_channel(f"unix:{bench.target.address}") as channel:
        stub = ExitsStub(channel)

        def codes(**wanted: object) -> list[int]:
            answer = stub.List(pb.ListExitsRequest(**wanted), metadata=bench.api.metadata())
            return [one.exit_status for one in answer.records]

        assert codes() == [2, 1, 0]
        assert codes(limit=2) == [2, 1]
        assert codes(container_id="c1", first_processes=True) == [1]
        with pytest.raises(grpc.RpcError) as missing:
            stub.Get(pb.GetExitRequest(container_id="none"), metadata=bench.api.metadata())
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND
        other = stub.List(pb.ListExitsRequest(), metadata=[("containerd-namespace", "other")])
    assert not other.records


def sctr(bench: Bench, *words: str) -> str:
    """What sctr prints."""
    command = [f"{sys.prefix}/bin/sctr", "--address", str(bench.target.address)]
    answer = subprocess.run(
        [*command, "--namespace", bench.api.namespace, *words], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout
