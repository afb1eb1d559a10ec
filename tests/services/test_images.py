"""Images over gRPC: contract sections 1.3 and 5."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from supervisor.api.services.images.v1 import images_pb2 as pb
from supervisor.api.services.images.v1 import images_pb2_grpc as rpc
from supervisor.api.types.descriptor_pb2 import Descriptor
from supervisor.metadata.store import Store
from supervisor.services.images import Images
from tests.services.conftest import Serve
from tests.services.refusal import refusal

Metadata = tuple[tuple[str, str], ...]
DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64


@pytest_asyncio.fixture
async def stub(store: Store, serve: Serve) -> AsyncIterator[rpc.ImagesStub]:
    channel = await serve(lambda server: rpc.add_ImagesServicer_to_server(Images(store), server))
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
