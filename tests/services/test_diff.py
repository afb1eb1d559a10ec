"""Diff over gRPC: contract section 9."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from supervisor.api.services.diff.v1 import diff_pb2 as pb
from supervisor.api.services.diff.v1 import diff_pb2_grpc as rpc
from supervisor.api.types.descriptor_pb2 import Descriptor
from supervisor.api.types.mount_pb2 import Mount
from supervisor.content.local import LocalStore
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.store import Store
from supervisor.model import digest as digests
from supervisor.model.identifiers import namespace
from supervisor.oci import image
from supervisor.services.diff import Diff
from tests.diff.layers import archive, member
from tests.services.conftest import Serve
from tests.services.refusal import refusal

Metadata = tuple[tuple[str, str], ...]


@pytest.fixture
def content(store: Store, tmp_path: Path) -> ContentStore:
    return ContentStore(store.database, LocalStore(tmp_path / "content"))


@pytest_asyncio.fixture
async def stub(content: ContentStore, tmp_path: Path, serve: Serve) -> AsyncIterator[rpc.DiffStub]:
    diff = Diff(content, tmp_path / "tmpmounts")
    channel = await serve(lambda server: rpc.add_DiffServicer_to_server(diff, server))
    yield rpc.DiffStub(channel)


def stored(content: ContentStore, data: bytes, media_type: str = image.OCI_LAYER_GZIP) -> Descriptor:
    ingest = content.open_ingest(namespace("blue"), "layer")
    ingest.append(data)
    ingest.commit(0, "", {})
    return Descriptor(media_type=media_type, digest=digests.of_bytes(data), size=len(data))


@pytest.mark.root
async def test_apply(content: ContentStore, stub: rpc.DiffStub, blue: Metadata, tmp_path: Path) -> None:
    tar = archive(member("f", b"text"))
    request = pb.ApplyRequest(diff=stored(content, gzip.compress(tar)), sync_fs=True)
    request.mounts.append(Mount(type="bind", source=str(tmp_path / "tree"), options=["rw", "rbind"]))
    (tmp_path / "tree").mkdir()
    applied = (await stub.Apply(request, metadata=blue)).applied
    assert applied.media_type == image.OCI_LAYER
    assert applied.digest == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert applied.size == len(tar)
    assert (tmp_path / "tree/f").read_text() == "text"


async def test_what_is_refused(content: ContentStore, stub: rpc.DiffStub, blue: Metadata) -> None:
    layer = stored(content, b"x")

    async def code(request: pb.ApplyRequest, metadata: Metadata = blue) -> str:
        return (await refusal(stub.Apply(request, metadata=metadata)))[0]

    assert await code(pb.ApplyRequest()) == "INVALID_ARGUMENT"
    assert await code(pb.ApplyRequest(diff=layer), ()) == "FAILED_PRECONDITION"
    assert await code(pb.ApplyRequest(diff=layer)) == "INVALID_ARGUMENT"
    green = (("containerd-namespace", "green"),)
    assert await code(pb.ApplyRequest(diff=layer), green) == "NOT_FOUND"
    assert await code(pb.ApplyRequest(diff=Descriptor(digest="nonsense"))) == "NOT_FOUND"
    request = pb.ApplyRequest(diff=layer, mounts=[Mount(type="bind", source="/nowhere")])
    request.diff.media_type = "text/plain"
    assert await code(request) == "UNKNOWN"


@pytest.mark.root
async def test_diff(content: ContentStore, stub: rpc.DiffStub, blue: Metadata, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_text("text")
    request = pb.DiffRequest(labels={"mine": "1"}, ref="chosen")
    request.right.append(Mount(type="bind", source=str(tmp_path / "tree"), options=["rw", "rbind"]))
    made = (await stub.Diff(request, metadata=blue)).diff
    assert made.media_type == image.OCI_LAYER_GZIP
    info = content.info(namespace("blue"), digests.digest(made.digest))
    stream, size = content.open_blob(namespace("blue"), info.digest)
    with stream:
        data = stream.read()
    assert size == made.size == len(data)
    tar_digest = digests.of_bytes(gzip.decompress(data))
    assert info.labels == {"mine": "1", "containerd.io/uncompressed": tar_digest}
    assert content.statuses(namespace("blue")) == []

    request.labels["other"] = "2"
    request.ClearField("ref")
    assert (await stub.Diff(request, metadata=blue)).diff == made
    assert content.info(namespace("blue"), info.digest).labels == info.labels
    content.update(namespace("blue"), replace(info, labels={"mine": "2"}))
    assert (await stub.Diff(request, metadata=blue)).diff == made
    healed = {"mine": "2", "containerd.io/uncompressed": tar_digest}
    assert content.info(namespace("blue"), info.digest).labels == healed


async def test_what_diff_refuses(content: ContentStore, stub: rpc.DiffStub, blue: Metadata) -> None:
    async def code(request: pb.DiffRequest, metadata: Metadata = blue) -> str:
        return (await refusal(stub.Diff(request, metadata=metadata)))[0]

    assert await code(pb.DiffRequest(media_type=image.DOCKER_LAYER_GZIP)) == "UNIMPLEMENTED"
    assert await code(pb.DiffRequest(), ()) == "FAILED_PRECONDITION"
    assert await code(pb.DiffRequest(), (*blue, ("containerd-lease", "unknown"))) == "NOT_FOUND"
    with closing(content.open_ingest(namespace("blue"), "busy")):
        assert await code(pb.DiffRequest(ref="busy")) == "UNAVAILABLE"
    right = [Mount(type="bind", source="/nowhere", options=["rbind"])]
    assert await code(pb.DiffRequest(right=right)) == "UNKNOWN"
    assert [status.ref for status in content.statuses(namespace("blue"))] == ["busy"]
