"""What filters see of events (contract 2)."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from supervisor.api.events import container_pb2, content_pb2, image_pb2, sandbox_pb2, task_pb2
from supervisor.events.payload import fields_of
from supervisor.model.any import Any
from supervisor.model.event import Envelope
from supervisor.model.instant import Nanoseconds


def envelope(message: Message) -> Envelope:
    payload = Any(message.DESCRIPTOR.full_name, message.SerializeToString())
    return Envelope(Nanoseconds(1), "blue", "/topic", payload)


TASK = task_pb2.TaskCreate(
    container_id="c", pid=7, io=task_pb2.TaskIO(stdout="/out", terminal=True), rootfs=[{"type": "bind"}]
)
CONTAINER = container_pb2.ContainerCreate(id="c", runtime={"name": "runc", "options": {"type_url": "t"}})
LABELLED = image_pb2.ImageCreate(name="i", labels={"a.b": "1"})


@pytest.mark.parametrize(
    ("message", "path", "value"),
    [
        (TASK, "namespace", "blue"),
        (TASK, "topic", "/topic"),
        (TASK, "event.container_id", "c"),
        (TASK, "event.bundle", None),
        (TASK, "event.io.stdout", "/out"),
        (TASK, "event.io.stdin", None),
        (TASK, "event.io.terminal", "true"),
        (TASK, "event.io", None),
        (TASK, "event.pid", None),
        (TASK, "event.rootfs", None),
        (TASK, "event", None),
        (TASK, "timestamp", None),
        (TASK, "event.no_such", None),
        (CONTAINER, "event.runtime.name", "runc"),
        (CONTAINER, "event.id", "c"),
        (LABELLED, "event.labels.a.b", "1"),
        (LABELLED, "event.labels.a", None),
        (LABELLED, "event.labels", None),
        (content_pb2.ContentCreate(mediaType="m", size=3), "event.mediaType", "m"),
        (content_pb2.ContentCreate(size=3), "event.size", None),
        (sandbox_pb2.SandboxExit(sandbox_id="s"), "event.exited_at", None),
    ],
)
def test_fields(message: Message, path: str, value: str | None) -> None:
    assert fields_of(envelope(message))(tuple(path.split("."))) == value


@pytest.mark.parametrize(
    "payload", [None, Any("unknown.Type", b""), Any("containerd.events.TaskExit", b"\xff\xff\xff")]
)
def test_a_payload_that_cannot_be_read_has_no_fields(payload: Any | None) -> None:
    lookup = fields_of(Envelope(Nanoseconds(1), "blue", "/topic", payload))
    assert lookup(("event", "id")) is None
    assert lookup(("topic",)) == "/topic"
