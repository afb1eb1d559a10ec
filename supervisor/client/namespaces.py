"""Namespaces: who shares names with whom (containerd: pkg/namespaces)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from supervisor.api.services.namespaces.v1 import namespace_pb2 as pb
from supervisor.client.channel import Channel

_SERVICE = "containerd.services.namespaces.v1.Namespaces"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and its labels."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Namespaces:
    """The namespaces of a daemon."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def get(self, name: str) -> Namespace:
        """The namespace `name`; one that does not exist yet is given back without labels."""
        answer = await self._channel.call(
            f"{_SERVICE}/Get", pb.GetNamespaceRequest(name=name), pb.GetNamespaceResponse
        )
        return _namespace(answer.namespace)

    async def list(self) -> list[Namespace]:
        """All namespaces, by name."""
        answer = await self._channel.call(
            f"{_SERVICE}/List", pb.ListNamespacesRequest(), pb.ListNamespacesResponse
        )
        return [_namespace(message) for message in answer.namespaces]

    async def create(self, name: str, labels: Mapping[str, str] | None = None) -> Namespace:
        """Create a namespace; raises AlreadyExists."""
        request = pb.CreateNamespaceRequest(namespace=pb.Namespace(name=name, labels=labels or {}))
        answer = await self._channel.call(f"{_SERVICE}/Create", request, pb.CreateNamespaceResponse)
        return _namespace(answer.namespace)

    async def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Set labels of a namespace; an empty value removes one."""
        mask = FieldMask(paths=[f"labels.{key}" for key in labels])
        request = pb.UpdateNamespaceRequest(
            namespace=pb.Namespace(name=name, labels=labels), update_mask=mask
        )
        await self._channel.call(f"{_SERVICE}/Update", request, pb.UpdateNamespaceResponse)

    async def delete(self, name: str) -> None:
        """Delete an empty namespace; raises NotFound, and FailedPrecondition naming what is still in it."""
        await self._channel.call(f"{_SERVICE}/Delete", pb.DeleteNamespaceRequest(name=name), Empty)


def _namespace(message: pb.Namespace) -> Namespace:
    return Namespace(message.name, dict(message.labels))
