"""The daemon's gRPC API as raw messages, for what no well-behaved client would send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from supervisor.api.services.containers.v1.containers_pb2_grpc import ContainersStub
from supervisor.api.services.content.v1.content_pb2_grpc import ContentStub
from supervisor.api.services.diff.v1.diff_pb2_grpc import DiffStub
from supervisor.api.services.events.v1.events_pb2_grpc import EventsStub
from supervisor.api.services.images.v1.images_pb2_grpc import ImagesStub
from supervisor.api.services.leases.v1.leases_pb2_grpc import LeasesStub
from supervisor.api.services.namespaces.v1.namespace_pb2_grpc import NamespacesStub
from supervisor.api.services.snapshots.v1.snapshots_pb2_grpc import SnapshotsStub
from supervisor.api.services.tasks.v1.tasks_pb2_grpc import TasksStub

NAMESPACE_KEY = "containerd-namespace"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The status that a call ended with."""

    code: str
    text: str


class Api:
    """One stub per service on one channel, all calls in one namespace."""

    def __init__(self, channel: grpc.Channel, namespace: str) -> None:
        self.namespace = namespace
        self._channel = channel
        self.containers = ContainersStub(channel)
        self.content = ContentStub(channel)
        self.diff = DiffStub(channel)
        self.events = EventsStub(channel)
        self.images = ImagesStub(channel)
        self.leases = LeasesStub(channel)
        self.namespaces = NamespacesStub(channel)
        self.snapshots = SnapshotsStub(channel)
        self.tasks = TasksStub(channel)

    def reconnect(self) -> None:
        """Wait until the daemon is reached that was started anew: until then calls fail for an old reason."""
        grpc.channel_ready_future(self._channel).result(timeout=30)

    def metadata(self, lease: str | None = None) -> list[tuple[str, str]]:
        """The headers of a call."""
        found = [(NAMESPACE_KEY, self.namespace)] if self.namespace else []
        return found + ([("containerd-lease", lease)] if lease is not None else [])

    def call(self, method: Callable[..., Any], request: object, *, lease: str | None = None) -> Any:
        """The answer of a unary call; a list of all messages of a streaming one."""
        answer = method(request, metadata=self.metadata(lease), timeout=30)
        return list(answer) if isinstance(answer, grpc.Call) and not hasattr(answer, "DESCRIPTOR") else answer

    def refused(self, method: Callable[..., Any], request: object, *, lease: str | None = None) -> Refusal:
        """The status of a call that must fail."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, request, lease=lease)
        return Refusal(caught.value.code().name, caught.value.details())


@contextmanager
def connected(address: Path, namespace: str) -> Iterator[Api]:
    """The API at a socket."""
    with grpc.insecure_channel(f"unix:{address}") as channel:
        yield Api(channel, namespace)
