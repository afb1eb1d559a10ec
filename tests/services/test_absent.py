"""Services that this version lacks say so, whatever a method's shape."""

from __future__ import annotations

import grpc.aio
import pytest

from supervisor.api.services.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from tests.services.conftest import Serve
from tests.services.refusal import refusal


async def test_all_shapes(serve: Serve) -> None:
    channel = await serve(lambda server: None)
    controller = sandbox_pb2_grpc.ControllerStub(channel)
    code, text = await refusal(controller.Stop(sandbox_pb2.ControllerStopRequest(sandbox_id="s")))
    assert code == "UNIMPLEMENTED"
    assert text.startswith(
        "/containerd.services.sandbox.v1.Controller/Stop: this version does not offer the sandbox"
    )
    stream = channel.stream_stream("/containerd.services.sandbox.v1.Controller/Stop", bytes, bytes)
    code, text = await refusal(stream(iter([b""])).read())
    assert code == "UNIMPLEMENTED"
    assert "this version does not offer" in text


async def test_an_unknown_service_is_left_to_grpc(serve: Serve) -> None:
    channel = await serve(lambda server: None)
    call = channel.unary_unary("/some.Service/Method")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
