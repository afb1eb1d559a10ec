"""Diff over gRPC: contract section 9."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from supervisor.api.events.content_pb2 import ContentCreate
from supervisor.api.services.diff.v1 import diff_pb2 as pb
from supervisor.api.services.diff.v1 import diff_pb2_grpc as rpc
from supervisor.api.types.descriptor_pb2 import Descriptor
from supervisor.api.types.mount_pb2 import Mount
from supervisor.content.local import LocalStore
from supervisor.diff.apply import Processing
from supervisor.diff.limits import Limits
from supervisor.diff.processors import Processor
from supervisor.metadata import events
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.mount_manager import MountManager
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
async def stub(
    content: ContentStore, store: Store, tmp_path: Path, serve: Serve
) -> AsyncIterator[rpc.DiffStub]:
    gunzip = Processor("own", ("application/x-own",), image.OCI_LAYER, "gzip", ("-d",))
    mounts = MountManager(store.database, tmp_path / "targets", (tmp_path,))
    limits = Limits(max_entries=100)
    diff = Diff(
        content, tmp_path / "tmpmounts", mounts=mounts, processing=Processing([gunzip], limits=limits)
    )
    channel = await serve(lambda server: server.add(diff))
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


@pytest.mark.root
async def test_a_layer_beyond_the_limits(
    content: ContentStore, stub: rpc.DiffStub, blue: Metadata, tmp_path: Path
) -> None:
    layer = stored(content, archive(member("/".join("d" * 200))), image.OCI_LAYER)
    target = Mount(type="bind", source=str(tmp_path / "tree"), options=["rw", "rbind"])
    (tmp_path / "tree").mkdir()
    code, text = await refusal(stub.Apply(pb.ApplyRequest(diff=layer, mounts=[target]), metadata=blue))
    assert code == "RESOURCE_EXHAUSTED"
    assert text.startswith(f"layer {layer.digest}: it makes more than 100 files and directories")
    assert "raise max_entries in [diff.limits]" in text


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


@pytest.mark.root
async def test_diff_tells_of_a_new_blob_only(
    content: ContentStore, stub: rpc.DiffStub, store: Store, blue: Metadata, tmp_path: Path
) -> None:
    """9.2, 6.4: one event with the media type; none for a blob that is there already; Apply tells nothing."""
    (tmp_path / "tree").mkdir()
    request = pb.DiffRequest(media_type=image.OCI_LAYER)
    request.right.append(Mount(type="bind", source=str(tmp_path / "tree"), options=["rbind"]))
    made = (await stub.Diff(request, metadata=blue)).diff
    await stub.Diff(request, metadata=blue)
    (told,) = await store.read(events.since, 0, 10)
    assert told.topic == "/content/create"
    assert told.event is not None
    event = ContentCreate.FromString(told.event.value)
    assert (event.digest, event.size) == (made.digest, made.size)
    target = Mount(type="bind", source=str(tmp_path / "tree"), options=["rw", "rbind"])
    await stub.Apply(pb.ApplyRequest(diff=made, mounts=[target]), metadata=blue)
    assert len(await store.read(events.since, 0, 10)) == 1


@pytest.mark.root
async def test_a_layer_of_a_type_that_a_processor_accepts(
    content: ContentStore, stub: rpc.DiffStub, blue: Metadata, tmp_path: Path
) -> None:
    """9.1: the processor makes the layer; the answer is of what was unpacked."""
    (tmp_path / "tree").mkdir()
    tar = archive(member("f", b"\x00"))
    layer = stored(content, gzip.compress(tar), "application/x-own")
    target = Mount(type="bind", source=str(tmp_path / "tree"), options=["rw", "rbind"])
    applied = (await stub.Apply(pb.ApplyRequest(diff=layer, mounts=[target]), metadata=blue)).applied
    assert applied.media_type == image.OCI_LAYER
    assert applied.digest == digests.of_bytes(tar)


@pytest.mark.root
async def test_special_mounts_go_through_the_mount_manager(
    content: ContentStore, stub: rpc.DiffStub, blue: Metadata, tmp_path: Path
) -> None:
    """9.1: what the kernel cannot mount is made ready first, and undone afterwards, also after a failure."""
    for name in ("lower", "rw"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/old").write_text("old")
    made = [f"X-containerd.mkdir.path={tmp_path}/rw/{part}:0755" for part in ("upper", "work")]
    used = [f"upperdir={tmp_path}/rw/upper", f"workdir={tmp_path}/rw/work", "lowerdir={{ mount 0 }}"]
    mounts = [
        Mount(type="bind", source=str(tmp_path / "lower"), options=["ro", "rbind"]),
        Mount(type="format/mkdir/overlay", source="overlay", options=[*made, *used]),
    ]
    layer = stored(content, archive(member("f", b"text"), member(".wh.old")), image.OCI_LAYER)
    await stub.Apply(pb.ApplyRequest(diff=layer, mounts=mounts), metadata=blue)
    assert (tmp_path / "rw/upper/f").read_text() == "text"
    assert (tmp_path / "rw/upper/old").is_char_device()
    request = pb.DiffRequest(media_type=image.OCI_LAYER, left=mounts[:1], right=mounts)
    blob = (await stub.Diff(request, metadata=blue)).diff
    stream, _ = content.open_blob(namespace("blue"), digests.digest(blob.digest))
    with stream, tarfile.open(fileobj=stream) as tar:
        assert tar.getnames() == ["f", ".wh.old"]
    broken = stored(content, b"no tar" * 1000, image.OCI_LAYER)
    assert (await refusal(stub.Apply(pb.ApplyRequest(diff=broken, mounts=mounts), metadata=blue)))[
        0
    ] == "UNKNOWN"
    assert os.listdir(tmp_path / "targets") == []
