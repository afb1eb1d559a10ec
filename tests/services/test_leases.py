"""Leases over gRPC: contract section 8."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from supervisor.api.services.leases.v1 import leases_pb2 as pb
from supervisor.api.services.leases.v1 import leases_pb2_grpc as rpc
from supervisor.metadata.store import Store
from supervisor.services.leases import Leases
from tests.services.conftest import Serve
from tests.services.refusal import refusal

Metadata = tuple[tuple[str, str], ...]


@pytest_asyncio.fixture
async def stub(store: Store, serve: Serve) -> AsyncIterator[rpc.LeasesStub]:
    channel = await serve(lambda server: rpc.add_LeasesServicer_to_server(Leases(store), server))
    yield rpc.LeasesStub(channel)


async def test_life_of_a_lease(stub: rpc.LeasesStub, blue: Metadata) -> None:
    made = (await stub.Create(pb.CreateRequest(labels={"a": "1"}), metadata=blue)).lease
    assert made.id
    assert made.created_at.seconds > 0
    assert list((await stub.List(pb.ListRequest(filters=["labels.a"]), metadata=blue)).leases) == [made]
    held = pb.Resource(id="k", type="snapshots/overlayfs")
    await stub.AddResource(pb.AddResourceRequest(id=made.id, resource=held), metadata=blue)
    request = pb.ListResourcesRequest(id=made.id)
    assert list((await stub.ListResources(request, metadata=blue)).resources) == [held]
    await stub.DeleteResource(pb.DeleteResourceRequest(id=made.id, resource=held), metadata=blue)
    assert list((await stub.ListResources(request, metadata=blue)).resources) == []
    await stub.Delete(pb.DeleteRequest(id=made.id, sync=True), metadata=blue)
    assert (await refusal(stub.ListResources(request, metadata=blue)))[0] == "NOT_FOUND"


async def test_refusals(stub: rpc.LeasesStub, blue: Metadata) -> None:
    assert (await refusal(stub.Delete(pb.DeleteRequest(id="l"), metadata=blue)))[0] == "NOT_FOUND"
    await stub.Create(pb.CreateRequest(id="l"), metadata=blue)
    again = stub.Create(pb.CreateRequest(id="l"), metadata=blue)
    assert await refusal(again) == ("ALREADY_EXISTS", 'lease "l": already exists')
    add = pb.AddResourceRequest
    for request, code in (
        (add(id="l"), "INVALID_ARGUMENT"),
        (add(id="l", resource=pb.Resource(id="x", type="content")), "INVALID_ARGUMENT"),
        (add(id="l", resource=pb.Resource(id="x", type="tasks")), "UNIMPLEMENTED"),
        (add(id="m", resource=pb.Resource(id="x", type="tasks")), "NOT_FOUND"),
    ):
        assert (await refusal(stub.AddResource(request, metadata=blue)))[0] == code
    assert (await refusal(stub.List(pb.ListRequest(filters=["a="]), metadata=blue)))[0] == "INVALID_ARGUMENT"
    assert (await refusal(stub.List(pb.ListRequest())))[0] == "FAILED_PRECONDITION"
