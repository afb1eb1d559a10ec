"""Rules of contract sections 1.4, 1.5 and 3, over gRPC."""

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from supervisor.api.events.namespace_pb2 import NamespaceUpdate
from supervisor.api.services.namespaces.v1 import namespace_pb2 as pb
from supervisor.api.services.namespaces.v1 import namespace_pb2_grpc as rpc
from supervisor.metadata import containers, content, events, images, leases
from supervisor.metadata.store import Store
from supervisor.model.container import Container, Runtime
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.identifiers import Namespace
from supervisor.model.image import Image
from supervisor.model.lease import Lease
from supervisor.services.namespaces import Namespaces
from tests.services.conftest import Serve


@pytest_asyncio.fixture
async def stub(store: Store, serve: Serve) -> AsyncIterator[rpc.NamespacesStub]:
    channel = await serve(lambda server: server.add(Namespaces(store)))
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


async def labels(stub: rpc.NamespacesStub, name: str) -> dict[str, str]:
    return dict((await stub.Get(pb.GetNamespaceRequest(name=name))).namespace.labels)


async def test_get_of_an_unknown_name_is_never_refused(stub: rpc.NamespacesStub) -> None:
    """3: the name comes back without labels, also an empty one, and nothing is made by it."""
    for name in ("unknown", ""):
        got = (await stub.Get(pb.GetNamespaceRequest(name=name))).namespace
        assert (got.name, dict(got.labels)) == (name, {})
    assert not (await stub.List(pb.ListNamespacesRequest())).namespaces


async def test_list_ignores_its_filter(stub: rpc.NamespacesStub, store: Store) -> None:
    """3: namespaces that a write made are there too, and the filter is not even parsed."""
    await stub.Create(create("aqua"))
    await store.write(leases.create, Namespace("blue"), Lease("l"))
    listed = await stub.List(pb.ListNamespacesRequest(filter="name=="))
    assert [n.name for n in listed.namespaces] == ["aqua", "blue"]


async def test_create_echoes_the_request(stub: rpc.NamespacesStub, store: Store) -> None:
    """1.4, 3: empty values included, which are not stored; one made by a write exists already."""
    answer = await stub.Create(create("blue", a="1", gone=""))
    assert dict(answer.namespace.labels) == {"a": "1", "gone": ""}
    assert await labels(stub, "blue") == {"a": "1"}
    await store.write(leases.create, Namespace("aqua"), Lease("l"))
    assert (await refusal(stub.Create(create("aqua"))))[0] is grpc.StatusCode.ALREADY_EXISTS


async def test_update_without_a_mask(stub: rpc.NamespacesStub) -> None:
    """3: replaces all labels, makes a namespace that is missing, and its answer has none."""
    wanted = pb.Namespace(name="blue", labels={"b": "2", "gone": ""})
    answer = await stub.Update(pb.UpdateNamespaceRequest(namespace=wanted))
    assert not answer.HasField("namespace")
    assert await labels(stub, "blue") == {"b": "2"}
    wanted.labels["c"] = "3"
    del wanted.labels["b"]
    await stub.Update(pb.UpdateNamespaceRequest(namespace=wanted))
    assert await labels(stub, "blue") == {"c": "3"}


@pytest.mark.parametrize("path", ["labels", "labels.", "name", "namespace.labels.a"])
async def test_paths_that_cannot_change(stub: rpc.NamespacesStub, path: str) -> None:
    """3: of the mask's paths only single labels are taken."""
    request = pb.UpdateNamespaceRequest(namespace=pb.Namespace(name="blue"))
    request.update_mask.paths.append(path)
    assert (await refusal(stub.Update(request)))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert not (await stub.List(pb.ListNamespacesRequest())).namespaces


async def test_a_label_that_is_too_large(stub: rpc.NamespacesStub) -> None:
    """1.4: key and value have 4096 bytes together at most."""
    await stub.Create(create("fits", k="v" * 4095))
    for call in (
        stub.Create(create("blue", k="v" * 4096)),
        stub.Update(pb.UpdateNamespaceRequest(namespace=pb.Namespace(name="blue", labels={"ü": "v" * 4095}))),
    ):
        assert (await refusal(call))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_delete_lists_what_is_in_it(stub: rpc.NamespacesStub, store: Store) -> None:
    """3: images, blobs, containers and snapshots count; the text names the kinds."""
    blue = Namespace("blue")
    delete = pb.DeleteNamespaceRequest(name="blue")
    digest = Digest("sha256:" + "1" * 64)
    await store.write(images.create, blue, Image("i", Descriptor("m", digest, 1)))
    assert await refusal(stub.Delete(delete)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "namespace 'blue' must be empty, but it still has images: failed precondition",
    )
    await store.write(content.record, blue, digest, 1, {}, "")
    await store.write(containers.create, blue, Container("c", Runtime("r")))
    assert "images, blobs, containers" in (await refusal(stub.Delete(delete)))[1]
    await store.write(images.remove, blue, "i")
    await store.write(content.forget, blue, digest, None)
    await store.write(containers.remove, blue, "c")
    await stub.Delete(delete)


async def test_what_vanishes_with_it(stub: rpc.NamespacesStub, store: Store) -> None:
    """3, 15: leases and labels do not keep it, and one made again under its name has none of them."""
    await stub.Create(create("blue", a="1"))
    await store.write(leases.create, Namespace("blue"), Lease("l"))
    await stub.Delete(pb.DeleteNamespaceRequest(name="blue"))
    await stub.Create(create("blue"))
    assert await labels(stub, "blue") == {}
    assert await store.read(leases.find, Namespace("blue")) == []


async def test_events_use_the_named_namespace(stub: rpc.NamespacesStub, store: Store) -> None:
    """3: not that of the header; update carries the labels of the request."""
    elsewhere = (("containerd-namespace", "elsewhere"),)
    await stub.Create(create("blue", a="1"), metadata=elsewhere)
    request = pb.UpdateNamespaceRequest(namespace=pb.Namespace(name="blue", labels={"b": "2"}))
    request.update_mask.paths.append("labels.c")
    await stub.Update(request, metadata=elsewhere)
    await stub.Delete(pb.DeleteNamespaceRequest(name="blue"), metadata=elsewhere)
    told = await store.read(events.since, 0, 10)
    assert [(e.namespace, e.topic) for e in told] == [
        ("blue", f"/namespaces/{verb}") for verb in ("create", "update", "delete")
    ]
    assert told[1].event is not None
    assert dict(NamespaceUpdate.FromString(told[1].event.value).labels) == {"b": "2"}
