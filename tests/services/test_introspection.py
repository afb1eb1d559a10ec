"""Introspection over gRPC: contract section 12."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.introspection.v1 import introspection_pb2 as pb
from supervisor.api.services.introspection.v1 import introspection_pb2_grpc as rpc
from supervisor.errors import SupervisorError
from supervisor.model.platform import Platform
from supervisor.model.plugin import PluginRecord
from supervisor.services.introspection import Introspection
from tests.services.conftest import Serve
from tests.services.refusal import refusal

LINUX = Platform("linux", "amd64")
GOOD = PluginRecord(
    "io.containerd.snapshotter.v1", "overlayfs", ("a",), (LINUX,), ("rebase",), {"root": "/r"}
)
SKIPPED = PluginRecord(
    "io.containerd.snapshotter.v1", "btrfs", error=SupervisorError("no btrfs here: skip plugin")
)


@pytest_asyncio.fixture
async def stub(tmp_path: Path, serve: Serve) -> AsyncIterator[rpc.IntrospectionStub]:
    service = Introspection(tmp_path, [SKIPPED, GOOD])
    channel = await serve(lambda server: server.add(service))
    yield rpc.IntrospectionStub(channel)


async def test_plugins(stub: rpc.IntrospectionStub) -> None:
    skipped, good = (await stub.Plugins(pb.PluginsRequest())).plugins
    assert (skipped.id, skipped.init_err.code) == ("btrfs", 2)
    assert skipped.init_err.message == "no btrfs here: skip plugin"
    assert not good.HasField("init_err")
    assert (list(good.requires), dict(good.exports), list(good.capabilities)) == (
        ["a"],
        {"root": "/r"},
        ["rebase"],
    )
    assert [(p.os, p.architecture) for p in good.platforms] == [("linux", "amd64")]


async def test_filters(stub: rpc.IntrospectionStub) -> None:
    request = pb.PluginsRequest(filters=["type==io.containerd.snapshotter.v1, id==overlayfs"])
    assert [p.id for p in (await stub.Plugins(request)).plugins] == ["overlayfs"]
    code, text = await refusal(stub.Plugins(pb.PluginsRequest(filters=["a="])))
    assert code == "INVALID_ARGUMENT"
    assert "parse error" in text


async def test_server(stub: rpc.IntrospectionStub, tmp_path: Path) -> None:
    answer = await stub.Server(Empty())
    assert answer == await stub.Server(Empty())
    assert uuid.UUID(answer.uuid).version == 4
    assert (answer.pid, answer.pidns) == (os.getpid(), os.stat("/proc/self/ns/pid").st_ino)
    path = tmp_path / "io.containerd.grpc.v1.introspection" / "uuid"
    assert path.read_text() == answer.uuid
    path.write_text("damaged")
    code, text = await refusal(stub.Server(Empty()))
    assert code == "UNKNOWN"
    assert str(path) in text


async def test_plugin_info(stub: rpc.IntrospectionStub) -> None:
    request = pb.PluginInfoRequest(type=GOOD.type, id=GOOD.id)
    assert (await stub.PluginInfo(request)).plugin.id == "overlayfs"
    options = Any(type_url="t")
    for id_, wanted in (("overlayfs", "UNIMPLEMENTED"), ("btrfs", "FAILED_PRECONDITION"), ("x", "NOT_FOUND")):
        asked = pb.PluginInfoRequest(type=GOOD.type, id=id_, options=options)
        assert (await refusal(stub.PluginInfo(asked)))[0] == wanted
