"""containerd.services.namespaces.v1.Namespaces (containerd: plugins/services/namespaces)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from supervisor.api.services.namespaces.v1 import namespace_pb2 as pb
from supervisor.errors import InvalidArgument
from supervisor.metadata import namespaces
from supervisor.metadata.store import Store
from supervisor.model.identifiers import namespace
from supervisor.services.context import Context


class Namespaces:
    """Serves the namespaces of the store; the only service that needs no namespace header."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Namespaces"]

    def __init__(self, store: Store) -> None:
        self._store = store

    async def Get(self, request: pb.GetNamespaceRequest, context: Context) -> pb.GetNamespaceResponse:
        """Labels of a namespace; an unknown one has none."""
        labels = self._store.look_up(namespaces.get, request.name)
        return pb.GetNamespaceResponse(namespace=_message(request.name, labels))

    async def List(self, request: pb.ListNamespacesRequest, context: Context) -> pb.ListNamespacesResponse:
        """All namespaces; the filter is ignored, as containerd does."""
        found = await self._store.read(namespaces.all_labels)
        return pb.ListNamespacesResponse(namespaces=[_message(name, labels) for name, labels in found])

    async def Create(
        self, request: pb.CreateNamespaceRequest, context: Context
    ) -> pb.CreateNamespaceResponse:
        """Make a namespace; the answer echoes the request."""
        wanted = _required(request)
        await self._store.write(namespaces.create, namespace(wanted.name), dict(wanted.labels))
        return pb.CreateNamespaceResponse(namespace=wanted)

    async def Update(
        self, request: pb.UpdateNamespaceRequest, context: Context
    ) -> pb.UpdateNamespaceResponse:
        """Replace the labels, or those that the mask names; the answer is empty."""
        wanted = _required(request)
        only = _masked_labels(request.update_mask)
        await self._store.write(namespaces.update, namespace(wanted.name), dict(wanted.labels), only)
        return pb.UpdateNamespaceResponse()

    async def Delete(self, request: pb.DeleteNamespaceRequest, context: Context) -> Empty:
        """Delete an empty namespace."""
        await self._store.write(namespaces.remove, request.name)
        return Empty()


def _message(name: str, labels: Mapping[str, str]) -> pb.Namespace:
    return pb.Namespace(name=name, labels=labels)


def _required(request: pb.CreateNamespaceRequest | pb.UpdateNamespaceRequest) -> pb.Namespace:
    if not request.HasField("namespace"):
        raise InvalidArgument("the request names no namespace")
    return request.namespace


def _masked_labels(mask: FieldMask) -> Sequence[str] | None:
    """The label keys that a mask names, None without a mask; raises InvalidArgument for other paths."""
    if not mask.paths:
        return None
    for path in mask.paths:
        if not path.startswith("labels.") or path == "labels.":
            raise InvalidArgument(f"cannot update field {path!r} of a namespace, only 'labels.KEY'")
    return [path.removeprefix("labels.") for path in mask.paths]
