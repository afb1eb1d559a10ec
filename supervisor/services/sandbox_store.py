"""containerd.services.sandbox.v1.Store (containerd: plugins/services/sandbox/store_service.go)."""

from __future__ import annotations

from supervisor.api.services.sandbox.v1 import sandbox_pb2 as pb
from supervisor.api.types import sandbox_pb2
from supervisor.errors import InvalidArgument
from supervisor.metadata import sandboxes
from supervisor.metadata.store import Store
from supervisor.model.container import Runtime
from supervisor.model.fieldmask import parse_mask
from supervisor.model.filters import parse_all
from supervisor.model.sandbox import MASK_FIELDS, MASK_MAPS, Sandbox
from supervisor.services import convert
from supervisor.services.context import Context, namespace_of


class SandboxStore:
    """Serves the sandboxes' records of the store; nothing runs or stops here."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Store"]

    def __init__(self, store: Store) -> None:
        self._store = store

    async def Create(self, request: pb.StoreCreateRequest, context: Context) -> pb.StoreCreateResponse:
        """Store a new record."""
        convert.require(request, "sandbox")
        convert.require(request.sandbox, "runtime")
        stored = await self._store.write(sandboxes.create, namespace_of(context), _value(request.sandbox))
        return pb.StoreCreateResponse(sandbox=_message(stored))

    async def Update(self, request: pb.StoreUpdateRequest, context: Context) -> pb.StoreUpdateResponse:
        """Change a record, or the fields of it that are named."""
        convert.require(request, "sandbox")
        if not request.fields or "runtime" in request.fields:
            convert.require(request.sandbox, "runtime")
        if not request.sandbox.sandbox_id:
            raise InvalidArgument("sandbox id must not be empty")
        namespace = namespace_of(context)
        mask = parse_mask(request.fields, "sandbox", fields=MASK_FIELDS, maps=MASK_MAPS)
        stored = await self._store.write(sandboxes.change, namespace, _value(request.sandbox), mask)
        return pb.StoreUpdateResponse(sandbox=_message(stored))

    async def Delete(self, request: pb.StoreDeleteRequest, context: Context) -> pb.StoreDeleteResponse:
        """Delete a record."""
        await self._store.write(sandboxes.remove, namespace_of(context), request.sandbox_id)
        return pb.StoreDeleteResponse()

    async def List(self, request: pb.StoreListRequest, context: Context) -> pb.StoreListResponse:
        """All records that pass the filters, in one answer."""
        namespace = namespace_of(context)
        found = await self._store.read(sandboxes.find, namespace, parse_all(request.filters))
        return pb.StoreListResponse(list=map(_message, found))

    async def Get(self, request: pb.StoreGetRequest, context: Context) -> pb.StoreGetResponse:
        """One record."""
        found = self._store.look_up(sandboxes.get, namespace_of(context), request.sandbox_id)
        return pb.StoreGetResponse(sandbox=_message(found))


def _value(message: sandbox_pb2.Sandbox) -> Sandbox:
    return Sandbox(
        id=message.sandbox_id,
        runtime=Runtime(message.runtime.name, convert.optional_any(message.runtime, "options")),
        spec=convert.optional_any(message, "spec"),
        labels=dict(message.labels),
        extensions={key: convert.to_any(value) for key, value in message.extensions.items()},
        sandboxer=message.sandboxer,
    )


def _message(sandbox: Sandbox) -> sandbox_pb2.Sandbox:
    runtime = sandbox.runtime
    message = sandbox_pb2.Sandbox(
        sandbox_id=sandbox.id,
        runtime=sandbox_pb2.Sandbox.Runtime(name=runtime.name, options=convert.from_any(runtime.options)),
        spec=convert.from_any(sandbox.spec),
        labels=sandbox.labels,
        created_at=convert.from_instant(sandbox.created_at),
        updated_at=convert.from_instant(sandbox.updated_at),
        sandboxer=sandbox.sandboxer,
    )
    for key, value in sandbox.extensions.items():
        message.extensions[key].type_url = value.type_url
        message.extensions[key].value = value.value
    return message
