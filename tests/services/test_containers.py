"""Containers over gRPC: contract sections 1.2, 1.4, 1.5 and 4."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.containers.v1 import containers_pb2 as pb
from supervisor.api.services.containers.v1 import containers_pb2_grpc as rpc
from supervisor.metadata.store import Store
from supervisor.services.containers import Containers
from tests.services.conftest import Serve
from tests.services.refusal import refusal

Metadata = tuple[tuple[str, str], ...]


@pytest_asyncio.fixture
async def stub(store: Store, serve: Serve) -> AsyncIterator[rpc.ContainersStub]:
    channel = await serve(lambda server: server.add(Containers(store)))
    yield rpc.ContainersStub(channel)


def full(id_: str = "c1") -> pb.Container:
    return pb.Container(
        id=id_,
        labels={"a": "1"},
        image="i",
        runtime=pb.Container.Runtime(name="r", options=Any(type_url="o", value=b"\x00\xff")),
        spec=Any(type_url="s", value=b"{}"),
        snapshotter="overlayfs",
        snapshot_key="k",
        extensions={"x": Any(type_url="e", value=b"\x01")},
        sandbox="sb",
    )


async def test_round_trip(stub: rpc.ContainersStub, blue: Metadata) -> None:
    created = (await stub.Create(pb.CreateContainerRequest(container=full()), metadata=blue)).container
    assert created.created_at == created.updated_at
    assert created.created_at.seconds > 0
    got = (await stub.Get(pb.GetContainerRequest(id="c1"), metadata=blue)).container
    assert got == created
    got.ClearField("created_at")
    got.ClearField("updated_at")
    assert got == full()


async def test_absent_payloads_stay_absent(stub: rpc.ContainersStub, blue: Metadata) -> None:
    bare = pb.Container(id="c1", runtime=pb.Container.Runtime(name="r"))
    created = (await stub.Create(pb.CreateContainerRequest(container=bare), metadata=blue)).container
    assert not created.HasField("spec")
    assert not created.runtime.HasField("options")


async def test_list_and_stream(stub: rpc.ContainersStub, blue: Metadata) -> None:
    for id_ in ("b", "a"):
        await stub.Create(pb.CreateContainerRequest(container=full(id_)), metadata=blue)
    listed = await stub.List(pb.ListContainersRequest(), metadata=blue)
    assert [c.id for c in listed.containers] == ["a", "b"]
    request = pb.ListContainersRequest(filters=["id==b"])
    assert [m.container.id async for m in stub.ListStream(request, metadata=blue)] == ["b"]
    nothing = stub.ListStream(pb.ListContainersRequest(filters=["id==none"]), metadata=blue)
    assert [m async for m in nothing] == []


async def test_update_and_delete(stub: rpc.ContainersStub, blue: Metadata) -> None:
    await stub.Create(pb.CreateContainerRequest(container=full()), metadata=blue)
    request = pb.UpdateContainerRequest(container=pb.Container(id="c1", labels={"b": "2"}))
    request.update_mask.paths.append("labels.b")
    updated = (await stub.Update(request, metadata=blue)).container
    assert dict(updated.labels) == {"a": "1", "b": "2"}
    assert await stub.Delete(pb.DeleteContainerRequest(id="c1"), metadata=blue) == Empty()
    refused = await refusal(stub.Delete(pb.DeleteContainerRequest(id="c1"), metadata=blue))
    assert refused == ("NOT_FOUND", 'container "c1" in namespace "blue": not found')


async def test_refusals(stub: rpc.ContainersStub, blue: Metadata) -> None:
    create, update = pb.CreateContainerRequest, pb.UpdateContainerRequest
    code, text = await refusal(stub.Get(pb.GetContainerRequest(id="c1")))
    assert (code, text) == ("FAILED_PRECONDITION", "namespace is required: failed precondition")
    bad = (("containerd-namespace", "a..b"),)
    code, text = await refusal(stub.Get(pb.GetContainerRequest(id="c1"), metadata=bad))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("namespace validation: identifier")
    for request in (create(), create(container=pb.Container(id="-")), create(container=pb.Container(id="c"))):
        assert (await refusal(stub.Create(request, metadata=blue)))[0] == "INVALID_ARGUMENT"
    for wrong in (update(), update(container=pb.Container())):
        assert (await refusal(stub.Update(wrong)))[0] == "INVALID_ARGUMENT"
    assert (await refusal(stub.Update(update(container=full()), metadata=blue)))[0] == "NOT_FOUND"
    masked = update(container=full(), update_mask={"paths": ["snapshot_key"]})
    assert (await refusal(stub.Update(masked, metadata=blue)))[0] == "INVALID_ARGUMENT"
    await stub.Create(create(container=full()), metadata=blue)
    assert (await refusal(stub.Create(create(container=full()), metadata=blue)))[0] == "ALREADY_EXISTS"
    listing = stub.List(pb.ListContainersRequest(filters=["id="]), metadata=blue)
    code, text = await refusal(listing)
    assert code == "INVALID_ARGUMENT"
    assert "parse error" in text


async def test_the_first_namespace_wins(stub: rpc.ContainersStub, blue: Metadata) -> None:
    await stub.Create(pb.CreateContainerRequest(container=full()), metadata=blue)
    twice = (*blue, ("containerd-namespace", "aqua"))
    assert (await stub.Get(pb.GetContainerRequest(id="c1"), metadata=twice)).container.id == "c1"
    assert (await refusal(stub.Get(pb.GetContainerRequest(id="c1"), metadata=twice[::-1])))[0] == "NOT_FOUND"
