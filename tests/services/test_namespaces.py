"""Rules of contract sections 1.4, 1.5 and 3, over gRPC."""

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from supervisor.api.services.namespaces.v1 import namespace_pb2 as pb
from supervisor.api.services.namespaces.v1 import namespace_pb2_grpc as rpc
from supervisor.metadata.store import Store
from supervisor.services.namespaces import Namespaces
from tests.services.conftest import Serve


@pytest_asyncio.fixture
async def stub(store: Store, serve: Serve) -> AsyncIterator[rpc.NamespacesStub]:
    channel = await serve(lambda server: rpc.add_NamespacesServicer_to_server(Namespaces(store), server))
    yield rpc.NamespacesStub(channel)


def create(name: str, **labels: str) -> pb.CreateNamespaceRequest:
    return pb.CreateNamespaceRequest(namespace=pb.Namespace(name=name, labels=labels))


async def refusal(call: grpc.aio.UnaryUnaryCall) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


async def test_create_list_get_delete(stub: rpc.NamespacesStub) -> None:
    await stub.Create(create("blue", colour="blue"))
    await stub.Create(create("aqua"))
    listed = await stub.List(pb.ListNamespacesRequest())
    assert [n.name for n in listed.namespaces] == ["aqua", "blue"]
    got = await stub.Get(pb.GetNamespaceRequest(name="blue"))
    assert dict(got.namespace.labels) == {"colour": "blue"}
    await stub.Delete(pb.DeleteNamespaceRequest(name="blue"))
    assert await refusal(stub.Delete(pb.DeleteNamespaceRequest(name="blue"))) == (
        grpc.StatusCode.NOT_FOUND,
        "namespace 'blue': not found",
    )


async def test_create_twice(stub: rpc.NamespacesStub) -> None:
    await stub.Create(create("blue"))
    code, text = await refusal(stub.Create(create("blue")))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert text.endswith("already exists")


@pytest.mark.parametrize("name", ["", "-a", "a..b", "a_", "x" * 77, "a\n", "ä"])
async def test_malformed_names(stub: rpc.NamespacesStub, name: str) -> None:
    code, text = await refusal(stub.Create(create(name)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("namespace validation: identifier")


async def test_update_mask(stub: rpc.NamespacesStub) -> None:
    await stub.Create(create("blue", a="1", b="2"))
    request = pb.UpdateNamespaceRequest(namespace=pb.Namespace(name="blue"))
    request.update_mask.paths.append("labels.a")
    await stub.Update(request)
    got = await stub.Get(pb.GetNamespaceRequest(name="blue"))
    assert dict(got.namespace.labels) == {"b": "2"}
    request.update_mask.paths[:] = ["labels"]
    assert (await refusal(stub.Update(request)))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_request_without_its_message_is_refused(stub: rpc.NamespacesStub) -> None:
    for call in (stub.Create(pb.CreateNamespaceRequest()), stub.Update(pb.UpdateNamespaceRequest())):
        assert (await refusal(call))[0] is grpc.StatusCode.INVALID_ARGUMENT
