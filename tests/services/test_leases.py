"""Leases over gRPC: contract section 8."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
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
    channel = await serve(lambda server: server.add(Leases(store)))
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


async def test_ids_and_labels_have_no_rules(stub: rpc.LeasesStub, blue: Metadata) -> None:
    """8, 1.4: any id, labels of any size; one without an id gets one; only created_at is kept."""
    made = (await stub.Create(pb.CreateRequest(id="a/ b\n", labels={"k": "v" * 5000}), metadata=blue)).lease
    assert made.id == "a/ b\n"
    assert made.labels["k"] == "v" * 5000
    generated = (await stub.Create(pb.CreateRequest(), metadata=blue)).lease
    assert re.fullmatch(r"\d+-[A-Za-z0-9_-]{4}", generated.id)
    assert [one.id for one in (await stub.List(pb.ListRequest(), metadata=blue)).leases] == sorted(
        [made.id, generated.id]
    )


async def test_resources(stub: rpc.LeasesStub, blue: Metadata) -> None:
    """8: need not exist, are held once, and listed by kind and id; what is absent can be let go of."""
    await stub.Create(pb.CreateRequest(id="l"), metadata=blue)
    digest = "sha256:" + "1" * 64
    wanted = [
        pb.Resource(type="content", id=digest),
        pb.Resource(type="images", id="i"),
        pb.Resource(type="ingests", id="r"),
        pb.Resource(type="snapshots/any thing", id="k"),
        pb.Resource(type="snapshots/native", id="a"),
    ]
    for resource in [*wanted[::-1], wanted[0]]:
        await stub.AddResource(pb.AddResourceRequest(id="l", resource=resource), metadata=blue)
    listing = pb.ListResourcesRequest(id="l")
    assert list((await stub.ListResources(listing, metadata=blue)).resources) == wanted
    for resource in (wanted[0], pb.Resource(type="images", id="absent")):
        await stub.DeleteResource(pb.DeleteResourceRequest(id="l", resource=resource), metadata=blue)
    assert list((await stub.ListResources(listing, metadata=blue)).resources) == wanted[1:]


@pytest.mark.parametrize(
    ("type_", "id_", "code"),
    [
        ("content", "sha256:1", "INVALID_ARGUMENT"),
        ("content", "", "INVALID_ARGUMENT"),
        ("ingests", "", "UNKNOWN"),
        ("snapshots/native", "", "UNKNOWN"),
        ("content/x", "sha256:" + "1" * 64, "INVALID_ARGUMENT"),
        ("images/x", "i", "INVALID_ARGUMENT"),
        ("snapshots", "k", "INVALID_ARGUMENT"),
        ("snapshots/", "k", "INVALID_ARGUMENT"),
        ("snapshots/a/b", "k", "INVALID_ARGUMENT"),
        ("snapshotter/overlayfs", "k", "UNIMPLEMENTED"),
        ("", "k", "UNIMPLEMENTED"),
    ],
)
async def test_types_that_are_refused(
    stub: rpc.LeasesStub, blue: Metadata, type_: str, id_: str, code: str
) -> None:
    """8, 15, 1.4: the same for adding and deleting, and behind the lease's own NOT_FOUND."""
    resource = pb.Resource(type=type_, id=id_)
    missing = stub.AddResource(pb.AddResourceRequest(id="l", resource=resource), metadata=blue)
    assert (await refusal(missing))[0] == "NOT_FOUND"
    await stub.Create(pb.CreateRequest(id="l"), metadata=blue)
    for call in (
        stub.AddResource(pb.AddResourceRequest(id="l", resource=resource), metadata=blue),
        stub.DeleteResource(pb.DeleteResourceRequest(id="l", resource=resource), metadata=blue),
    ):
        assert (await refusal(call))[0] == code
