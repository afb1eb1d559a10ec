"""PluginInfo of the runtime plugin: the shim is really asked (contract 12.1)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.any_pb2 import Any

from supervisor.api.services.introspection.v1 import introspection_pb2 as pb
from supervisor.api.services.introspection.v1 import introspection_pb2_grpc as rpc
from supervisor.api.types.introspection_pb2 import RuntimeInfo, RuntimeRequest
from supervisor.model.plugin import PluginRecord
from supervisor.services.introspection import Introspection
from supervisor.services.runtime_info import runtime_info
from tests.services.conftest import Serve
from tests.services.refusal import refusal

TASK = ("io.containerd.runtime.v2", "task")


@pytest_asyncio.fixture
async def stub(tmp_path: Path, serve: Serve) -> AsyncIterator[rpc.IntrospectionStub]:
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    failing.chmod(0o755)
    details = {TASK: partial(runtime_info, {"failing.v1": str(failing)})}
    service = Introspection(tmp_path, [PluginRecord(*TASK)], details)
    channel = await serve(lambda server: server.add(service))
    yield rpc.IntrospectionStub(channel)


def ask(runtime: str) -> pb.PluginInfoRequest:
    wanted = RuntimeRequest(runtime_path=runtime)
    options = Any(type_url="containerd.types.RuntimeRequest", value=wanted.SerializeToString())
    return pb.PluginInfoRequest(type=TASK[0], id=TASK[1], options=options)


@pytest.mark.compat
async def test_our_shim_tells_of_itself_and_of_runc(stub: rpc.IntrospectionStub) -> None:
    answer = await stub.PluginInfo(ask("io.containerd.runc.v2"))
    assert answer.extra.type_url == "containerd.types.RuntimeInfo"
    info = RuntimeInfo.FromString(answer.extra.value)
    assert info.name == "io.containerd.oci.v2"
    if info.HasField("features"):  # runc 1.1 has them, older ones do not
        assert "ociVersionMin" in json.loads(info.features.value)


@pytest.mark.parametrize(
    ("runtime", "said"),
    [("no.such.v9", "not installed"), ("bad", "invalid runtime name"), ("failing.v1", "no such thing")],
)
async def test_a_shim_that_cannot_be_asked(stub: rpc.IntrospectionStub, runtime: str, said: str) -> None:
    code, text = await refusal(stub.PluginInfo(ask(runtime)))
    assert code == "UNKNOWN"
    assert said in text


async def test_other_options(stub: rpc.IntrospectionStub) -> None:
    for url, code in (("some.Type", "UNIMPLEMENTED"), ("containerd.types.RuntimeRequest", "UNKNOWN")):
        request = pb.PluginInfoRequest(type=TASK[0], id=TASK[1], options=Any(type_url=url, value=b"\xff\xff"))
        assert (await refusal(stub.PluginInfo(request)))[0] == code
