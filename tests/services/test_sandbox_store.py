"""The sandbox store over gRPC: contract section 14."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from google.protobuf.any_pb2 import Any
from sqlalchemy import select

from supervisor.api.services.sandbox.v1 import sandbox_pb2 as pb
from supervisor.api.services.sandbox.v1 import sandbox_pb2_grpc as rpc
from supervisor.api.types.sandbox_pb2 import Sandbox
from supervisor.metadata import events, namespaces
from supervisor.metadata.schema import EdgeRow
from supervisor.metadata.store import Store
from supervisor.services.sandbox_store import SandboxStore
from tests.services.conftest import Serve
from tests.services.refusal import refusal

Metadata = tuple[tuple[str, str], ...]


@pytest_asyncio.fixture
async def stub(store: Store, serve: Serve) -> AsyncIterator[rpc.StoreStub]:
    channel = await serve(lambda server: server.add(SandboxStore(store)))
    yield rpc.StoreStub(channel)


def full(id_: str = "s1") -> Sandbox:
    return Sandbox(
        sandbox_id=id_,
        runtime=Sandbox.Runtime(name="r", options=Any(type_url="o", value=b"\x00\xff")),
        spec=Any(type_url="s", value=b"{}"),
        labels={"a": "1"},
        extensions={"x": Any(type_url="e", value=b"\x01")},
        sandboxer="podsandbox",
    )


async def created(stub: rpc.StoreStub, blue: Metadata, sandbox: Sandbox | None = None) -> Sandbox:
    request = pb.StoreCreateRequest(sandbox=sandbox or full())
    made: Sandbox = (await stub.Create(request, metadata=blue)).sandbox
    return made


async def updated(stub: rpc.StoreStub, blue: Metadata, sandbox: Sandbox, *fields: str) -> Sandbox:
    request = pb.StoreUpdateRequest(sandbox=sandbox, fields=fields)
    result: Sandbox = (await stub.Update(request, metadata=blue)).sandbox
    return result


async def test_create_and_get(stub: rpc.StoreStub, blue: Metadata) -> None:
    """14: times are the server's, equal at creation (1.4); payloads come back byte for byte (1.6)."""
    sent = full()
    sent.created_at.seconds = 5
    made = await created(stub, blue, sent)
    assert made.created_at == made.updated_at
    assert made.created_at.seconds > 5
    got = (await stub.Get(pb.StoreGetRequest(sandbox_id="s1"), metadata=blue)).sandbox
    assert got == made
    got.ClearField("created_at")
    got.ClearField("updated_at")
    assert got == full()


async def test_create_refuses(stub: rpc.StoreStub, blue: Metadata) -> None:
    """14: the id is an identifier; 16: a request without sandbox or runtime crashes containerd."""
    for bad in (Sandbox(), full("a..b"), full("x" * 77), Sandbox(sandbox_id="s")):
        code, _ = await refusal(stub.Create(pb.StoreCreateRequest(sandbox=bad), metadata=blue))
        assert code == "INVALID_ARGUMENT", bad
    assert (await refusal(stub.Create(pb.StoreCreateRequest(), metadata=blue)))[0] == "INVALID_ARGUMENT"
    assert (await refusal(stub.Create(pb.StoreCreateRequest(sandbox=full()))))[0] == "FAILED_PRECONDITION"
    await created(stub, blue)
    code, text = await refusal(stub.Create(pb.StoreCreateRequest(sandbox=full()), metadata=blue))
    assert (code, text) == ("ALREADY_EXISTS", 'sandbox "s1": already exists')


async def test_labels_have_no_bound_and_the_runtime_no_name(stub: rpc.StoreStub, blue: Metadata) -> None:
    """14, 1.4: labels of sandboxes are not checked for their size; an empty value is never stored."""
    large = Sandbox(sandbox_id="s", runtime=Sandbox.Runtime(), labels={"k": "v" * 5000, "gone": ""})
    made = await created(stub, blue, large)
    assert dict(made.labels) == {"k": "v" * 5000}
    assert made.runtime.name == ""
    assert not made.HasField("spec")


async def test_get_and_delete_of_an_unknown_one(stub: rpc.StoreStub, blue: Metadata) -> None:
    """14: NOT_FOUND."""
    assert (await refusal(stub.Get(pb.StoreGetRequest(sandbox_id="s"), metadata=blue)))[0] == "NOT_FOUND"
    gone = pb.StoreDeleteRequest(sandbox_id="s")
    assert (await refusal(stub.Delete(gone, metadata=blue)))[0] == "NOT_FOUND"
    await created(stub, blue, full("s"))
    await stub.Delete(gone, metadata=blue)
    assert (await refusal(stub.Get(pb.StoreGetRequest(sandbox_id="s"), metadata=blue)))[0] == "NOT_FOUND"


async def test_list(stub: rpc.StoreStub, blue: Metadata) -> None:
    """14, 1.7: byte order of ids; 2: of the fields only id and labels can be matched."""
    for id_ in ("b", "a", "B"):
        sandbox = full(id_)
        sandbox.labels["n.m"] = id_
        await created(stub, blue, sandbox)

    async def listed(*filters: str) -> list[str]:
        answer = await stub.List(pb.StoreListRequest(filters=filters), metadata=blue)
        return [sandbox.sandbox_id for sandbox in answer.list]

    assert await listed() == ["B", "a", "b"]
    assert await listed("labels.n.m~=[ab]") == ["a", "b"]
    assert await listed("id==a", "id==B") == ["B", "a"]
    assert await listed("runtime.name==r") == await listed("sandboxer==podsandbox") == []
    assert await listed("runtime.name!=r") == ["B", "a", "b"]
    bad = stub.List(pb.StoreListRequest(filters=["id="]), metadata=blue)
    assert (await refusal(bad))[0] == "INVALID_ARGUMENT"


async def test_update_without_fields(stub: rpc.StoreStub, blue: Metadata) -> None:
    """14: replaces labels, extensions, spec and runtime; sandboxer is fixed; what is not brought stays."""
    made = await created(stub, blue)
    given = Sandbox(sandbox_id="s1", runtime=Sandbox.Runtime(name="r"), labels={"b": "2"}, sandboxer="other")
    given.extensions["y"].type_url = "new"
    result = await updated(stub, blue, given)
    assert (dict(result.labels), list(result.extensions), result.sandboxer) == (
        {"b": "2"},
        ["y"],
        "podsandbox",
    )
    assert (result.spec, result.runtime) == (made.spec, made.runtime)
    assert result.created_at == made.created_at
    assert result.updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()
    given.runtime.name = "other"
    for wrong in (given, Sandbox(sandbox_id="s1")):
        refused = stub.Update(pb.StoreUpdateRequest(sandbox=wrong), metadata=blue)
        assert (await refusal(refused))[0] == "INVALID_ARGUMENT"


async def test_update_of_fields(stub: rpc.StoreStub, blue: Metadata) -> None:
    """14: the paths that may change; `runtime` may change even its name."""
    await created(stub, blue)
    given = Sandbox(sandbox_id="s1", runtime=Sandbox.Runtime(name="q"), labels={"b.c": "2", "d": "3"})
    result = await updated(stub, blue, given, "labels.b.c", "labels.a", "extensions.x", "runtime")
    assert dict(result.labels) == {"b.c": "2"}
    assert (result.runtime.name, result.runtime.options.type_url) == ("q", "o")
    assert dict(result.extensions) == {}
    assert (await updated(stub, blue, given, "labels")).labels == given.labels
    given.spec.type_url = "new"
    assert (await updated(stub, blue, given, "spec", "extensions")).spec.type_url == "new"


@pytest.mark.parametrize("path", ["sandboxer", "created_at", "updated_at", "runtime.name", "sandbox_id", ""])
async def test_fields_that_cannot_change(stub: rpc.StoreStub, blue: Metadata, path: str) -> None:
    """14: INVALID_ARGUMENT."""
    await created(stub, blue)
    request = pb.StoreUpdateRequest(sandbox=full(), fields=[path])
    assert (await refusal(stub.Update(request, metadata=blue)))[0] == "INVALID_ARGUMENT"


async def test_update_of_an_unknown_one(stub: rpc.StoreStub, blue: Metadata) -> None:
    """14: NOT_FOUND; 16: without a sandbox INVALID_ARGUMENT."""
    request = pb.StoreUpdateRequest(sandbox=full(), fields=["labels"])
    assert (await refusal(stub.Update(request, metadata=blue)))[0] == "NOT_FOUND"
    assert (await refusal(stub.Update(pb.StoreUpdateRequest(), metadata=blue)))[0] == "INVALID_ARGUMENT"


async def test_no_events_and_no_lease(stub: rpc.StoreStub, store: Store, blue: Metadata) -> None:
    """14, 1.3: an unknown lease is not even looked at."""
    leased = (*blue, ("containerd-lease", "unknown"))
    await created(stub, leased)
    await updated(stub, leased, full())
    await stub.Delete(pb.StoreDeleteRequest(sandbox_id="s1"), metadata=leased)
    assert await store.read(events.since, 0, 10) == []


async def test_what_its_labels_refer_to_is_kept(stub: rpc.StoreStub, store: Store, blue: Metadata) -> None:
    """11.1: references of a sandbox's labels are roots, for as long as it is there."""

    async def kept() -> list[tuple[str, str]]:
        edges = select(EdgeRow.target_type, EdgeRow.target_key).where(EdgeRow.source_type == "sandbox")
        return await store.read(lambda c: [(str(type_), str(key)) for type_, key in c.execute(edges)])

    sandbox = full()
    sandbox.labels["containerd.io/gc.ref.snapshot.native/x"] = "k"
    await created(stub, blue, sandbox)
    assert await kept() == [("snapshot/native", "k")]
    await updated(stub, blue, full(), "labels")
    assert await kept() == []


async def test_sandboxes_vanish_with_their_namespace(
    stub: rpc.StoreStub, store: Store, blue: Metadata
) -> None:
    """3: they do not make a namespace count as filled."""
    await created(stub, blue)
    await store.write(namespaces.remove, "blue")
    assert (await stub.List(pb.StoreListRequest(), metadata=blue)).list == []
