"""The daemon is killed and another takes over: rows 2, 20 and 33 of contract tasks 8."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import pytest

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from tests.conformance.driving import Bench, Output, holds


def test_row_33_and_20_tasks_and_their_streams_go_on(bench: Bench, output: Output, tmp_path: Path) -> None:
    path = tmp_path / "in"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    box = bench.box("c", "cat")
    pid = box.create(stdin=str(path), stdout=output.path, stderr=output.path)
    box.start()
    ends = bench.running("d", "sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 9")
    ended_pid = ends.get().pid
    waiting = box.waiting()
    bench.target.kill()
    with pytest.raises(grpc.RpcError) as lost:
        waiting.result()
    assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
    os.write(writer, b"meanwhile\n")
    output.expect(b"meanwhile\n")
    (bench.rootfs / "tmp/end").touch()
    holds(lambda: not Path(f"/proc/{ended_pid}").exists(), "the end of a container meanwhile")
    (bench.rootfs / "tmp/end").unlink()
    bench.target.start()
    assert (box.status(), box.get().pid) == ("RUNNING", pid)
    assert (box.get().stdin, box.get().stdout) == (str(path), output.path)
    if bench.target.keeps_what_ended:
        assert (ends.status(), ends.wait().exit_status, ends.delete().exit_status) == ("STOPPED", 9, 9)
    else:
        assert ends.refused("Get", pb.GetRequest(container_id="d")).code == "NOT_FOUND"
    assert box.end() == 137
    assert output.to_end() == b"meanwhile\n"
    os.close(writer)
