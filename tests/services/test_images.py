"""Images over gRPC: contract sections 1.3 and 5."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from supervisor.api.services.images.v1 import images_pb2 as pb
from supervisor.api.services.images.v1 import images_pb2_grpc as rpc
from supervisor.api.types.descriptor_pb2 import Descriptor
from supervisor.metadata import leases
from supervisor.metadata.store import Store
from supervisor.model.identifiers import Namespace
from supervisor.model.lease import Lease
from supervisor.services.images import Images
from tests.services.conftest import Serve
from tests.services.refusal import refusal

Metadata = tuple[tuple[str, str], ...]
DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64


@pytest_asyncio.fixture
async def stub(store: Store, serve: Serve) -> AsyncIterator[rpc.ImagesStub]:
    channel = await serve(lambda server: server.add(Images(store)))
    yield rpc.ImagesStub(channel)


def image(name: str = "i", **labels: str) -> pb.Image:
    target = Descriptor(media_type="m", digest=DIGEST, size=7, annotations={"k": "v"})
    return pb.Image(name=name, labels=labels, target=target)


async def test_round_trip(stub: rpc.ImagesStub, blue: Metadata) -> None:
    created = (await stub.Create(pb.CreateImageRequest(image=image(a="1")), metadata=blue)).image
    assert created.created_at == created.updated_at
    assert (await stub.Get(pb.GetImageRequest(name="i"), metadata=blue)).image == created
    assert list((await stub.List(pb.ListImagesRequest(), metadata=blue)).images) == [created]
    created.ClearField("created_at")
    created.ClearField("updated_at")
    assert created == image(a="1")


async def test_source_date_keeps_its_nanoseconds(stub: rpc.ImagesStub, blue: Metadata) -> None:
    then = Timestamp(seconds=5, nanos=123456789)
    request = pb.CreateImageRequest(image=image(), source_date_epoch=then)
    created = (await stub.Create(request, metadata=blue)).image
    assert created.created_at == created.updated_at == then


async def test_a_source_date_that_cannot_be_stored(stub: rpc.ImagesStub, blue: Metadata) -> None:
    for seconds in (-62135596800, 253402300799):
        request = pb.CreateImageRequest(image=image(), source_date_epoch=Timestamp(seconds=seconds))
        assert (await refusal(stub.Create(request, metadata=blue)))[0] == "INVALID_ARGUMENT"


async def test_update(stub: rpc.ImagesStub, blue: Metadata) -> None:
    await stub.Create(pb.CreateImageRequest(image=image(a="1")), metadata=blue)
    request = pb.UpdateImageRequest(image=image(b="2"), update_mask={"paths": ["labels.b"]})
    request.image.ClearField("target")
    updated = (await stub.Update(request, metadata=blue)).image
    assert dict(updated.labels) == {"a": "1", "b": "2"}
    assert updated.target == image().target
    request.update_mask.paths[:] = ["target.digest"]
    assert (await refusal(stub.Update(request, metadata=blue)))[0] == "INVALID_ARGUMENT"


async def test_delete_with_target(stub: rpc.ImagesStub, blue: Metadata) -> None:
    await stub.Create(pb.CreateImageRequest(image=image()), metadata=blue)
    wrong = pb.DeleteImageRequest(name="i", target=Descriptor(digest=OTHER))
    assert (await refusal(stub.Delete(wrong, metadata=blue)))[0] == "NOT_FOUND"
    await stub.Delete(pb.DeleteImageRequest(name="i", sync=True), metadata=blue)
    assert (await refusal(stub.Get(pb.GetImageRequest(name="i"), metadata=blue)))[0] == "NOT_FOUND"


async def test_an_unknown_lease(stub: rpc.ImagesStub, blue: Metadata) -> None:
    expiring = pb.CreateImageRequest(image=image(**{"containerd.io/gc.expire": "2030-01-01T00:00:00Z"}))
    for lease in ("unknown", ""):
        refused = await refusal(stub.Create(expiring, metadata=(*blue, ("containerd-lease", lease))))
        assert refused == ("NOT_FOUND", "lease does not exist: not found")
    await stub.Create(pb.CreateImageRequest(image=image()), metadata=(*blue, ("containerd-lease", "unknown")))


async def test_refusals(stub: rpc.ImagesStub, blue: Metadata) -> None:
    no_target, no_size = pb.Image(name="i"), image()
    no_size.target.size = 0
    for request in (None, pb.Image(), image(""), no_target, no_size):
        call = stub.Create(pb.CreateImageRequest(image=request), metadata=blue)
        assert (await refusal(call))[0] == "INVALID_ARGUMENT"
    for cheap in (None, pb.Image()):
        call = stub.Create(pb.CreateImageRequest(image=cheap))
        assert (await refusal(call))[0] == "INVALID_ARGUMENT"
    unnamed = pb.UpdateImageRequest(image=pb.Image())
    assert (await refusal(stub.Update(unnamed)))[0] == "INVALID_ARGUMENT"
    assert (await refusal(stub.Update(pb.UpdateImageRequest(image=image()))))[0] == "FAILED_PRECONDITION"
    assert (await refusal(stub.Update(pb.UpdateImageRequest(image=image()), metadata=blue)))[0] == "NOT_FOUND"


async def test_update_with_a_source_date(stub: rpc.ImagesStub, blue: Metadata) -> None:
    """5: it sets updated_at; created_at is kept."""
    made = (await stub.Create(pb.CreateImageRequest(image=image()), metadata=blue)).image
    then = Timestamp(seconds=5, nanos=1)
    request = pb.UpdateImageRequest(image=image(), source_date_epoch=then)
    updated = (await stub.Update(request, metadata=blue)).image
    assert (updated.created_at, updated.updated_at) == (made.created_at, then)


async def test_update_without_a_mask(stub: rpc.ImagesStub, blue: Metadata) -> None:
    """5, 1.4: labels and target are replaced wholesale; empty values are removals; the name must be known."""
    await stub.Create(pb.CreateImageRequest(image=image(a="1")), metadata=blue)
    target = Descriptor(media_type="n", digest=OTHER, size=8, annotations={"x": "", "y": "1"})
    request = pb.UpdateImageRequest(image=pb.Image(name="i", labels={"b": "2", "c": ""}, target=target))
    updated = (await stub.Update(request, metadata=blue)).image
    assert dict(updated.labels) == {"b": "2"}
    assert (updated.target.digest, dict(updated.target.annotations)) == (OTHER, {"y": "1"})
    request.image.ClearField("target")
    assert (await refusal(stub.Update(request, metadata=blue)))[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("path", ["name", "target.digest", "created_at", "labels.", "annotation.a", ""])
async def test_paths_that_cannot_change(stub: rpc.ImagesStub, blue: Metadata, path: str) -> None:
    """5: labels, labels.K, target, annotations and annotations.K can."""
    await stub.Create(pb.CreateImageRequest(image=image(a="1")), metadata=blue)
    request = pb.UpdateImageRequest(image=image(b="2"), update_mask={"paths": [path]})
    assert (await refusal(stub.Update(request, metadata=blue)))[0] == "INVALID_ARGUMENT"
    assert dict((await stub.Get(pb.GetImageRequest(name="i"), metadata=blue)).image.labels) == {"a": "1"}


async def test_paths_that_can(stub: rpc.ImagesStub, blue: Metadata) -> None:
    """5: a key behind `annotations.` is one of the target's, dots included."""
    await stub.Create(pb.CreateImageRequest(image=image(a="1")), metadata=blue)
    given = image(b="2")
    given.target.digest = OTHER
    given.target.annotations["x.y"] = "z"
    request = pb.UpdateImageRequest(image=given, update_mask={"paths": ["annotations.x.y"]})
    updated = (await stub.Update(request, metadata=blue)).image
    assert dict(updated.target.annotations) == {"k": "v", "x.y": "z"}
    assert (updated.target.digest, dict(updated.labels)) == (DIGEST, {"a": "1"})
    request.update_mask.paths[:] = ["target", "labels"]
    updated = (await stub.Update(request, metadata=blue)).image
    assert (updated.target, dict(updated.labels)) == (given.target, {"b": "2"})


async def test_lists_are_in_byte_order_and_filtered(stub: rpc.ImagesStub, blue: Metadata) -> None:
    """1.7, 2: names by their bytes; the filters that dockerd and nerdctl send."""
    for name in ("docker.io/library/b:1", "docker.io/library/alpine:3", "Z", "\u00e4"):
        await stub.Create(pb.CreateImageRequest(image=image(name, n=name)), metadata=blue)

    async def listed(*filters: str) -> list[str]:
        answer = await stub.List(pb.ListImagesRequest(filters=filters), metadata=blue)
        return [one.name for one in answer.images]

    everything = ["Z", "docker.io/library/alpine:3", "docker.io/library/b:1", "\u00e4"]
    assert await listed() == await listed("") == await listed("name==x", "") == everything
    assert await listed("name~=^docker\\.io/library/alpine:") == ["docker.io/library/alpine:3"]
    assert await listed(f'target.digest==sha256:{"1" * 64},labels."n"') == everything
    assert await listed('target.digest~="^sha256:11[0-9a-fA-F]{62}$",name!=Z') == everything[1:]
    assert await listed("annotations.k==v,target.mediatype==m,labels.n==Z") == ["Z"]
    assert await listed("size==7") == []


async def test_an_image_that_can_expire_is_held_by_the_lease(
    stub: rpc.ImagesStub, store: Store, blue: Metadata
) -> None:
    """1.3: also by an update that makes it so, or answers ALREADY_EXISTS; deletion lets go."""
    await store.write(leases.create, Namespace("blue"), Lease("l"))
    leased = (*blue, ("containerd-lease", "l"))
    expiring = image(**{"containerd.io/gc.expire": "2030-01-01T00:00:00Z"})

    async def held() -> list[str]:
        return [one.id for one in await store.read(leases.resources, Namespace("blue"), "l")]

    await stub.Create(pb.CreateImageRequest(image=image()), metadata=leased)
    assert await held() == []
    await stub.Update(pb.UpdateImageRequest(image=expiring), metadata=leased)
    assert await held() == ["i"]
    await stub.Delete(pb.DeleteImageRequest(name="i"), metadata=leased)
    assert await held() == []
