"""What the store says, read from outside: the journal, and the exit records over the API."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import grpc

from supervisor.api.events.task_pb2 import TaskExit
from supervisor.api.services.supervisor import exits_pb2 as pb
from supervisor.api.services.supervisor.exits_pb2_grpc import ExitsStub
from tests.compat.ctr import eventually
from tests.conformance.driving import Bench


def journal(root: Path, topic: str) -> list[bytes]:
    """The payloads of all events of a topic, in order. The daemon may run: readers disturb nobody."""
    with closing(sqlite3.connect(f"file:{root}/metadata.db?mode=ro", uri=True)) as store:
        rows = store.execute("SELECT event FROM events WHERE topic = ? ORDER BY sequence", (topic,))
        return [payload.partition(b"\0")[2] for (payload,) in rows]


def exits(root: Path) -> list[tuple[str, str, int]]:
    """Container, process and status of every exit event."""
    told = map(TaskExit.FromString, journal(root, "/tasks/exit"))
    return [(one.container_id, one.id, one.exit_status) for one in told]


def record(bench: Bench, container: str, exec_id: str = "") -> pb.ExitRecord:
    """The newest exit record of a process, once there is one: a Wait may be answered before it is told."""
    request = pb.GetExitRequest(container_id=container, exec_id=exec_id)
    with grpc.insecure_channel(f"unix:{bench.target.address}") as channel:
        stub = ExitsStub(channel)

        def look() -> pb.ExitRecord | None:
            try:
                answer = stub.Get(request, metadata=bench.api.metadata(), timeout=30)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                return None
            found: pb.ExitRecord = answer.record
            return found

        found = eventually(look, what=f"an exit record of {container} {exec_id}")
    assert found is not None
    return found
