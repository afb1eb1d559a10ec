"""Services that this version lacks say so, whatever a method's shape."""

from __future__ import annotations

import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any

from supervisor.api.services.mounts.v1 import mounts_pb2, mounts_pb2_grpc
from supervisor.api.services.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from supervisor.api.services.streaming.v1 import streaming_pb2_grpc
from supervisor.api.services.transfer.v1 import transfer_pb2, transfer_pb2_grpc
from supervisor.services.absent import Absent
from tests.services.conftest import Serve
from tests.services.refusal import refusal


async def test_all_shapes(serve: Serve) -> None:
    channel = await serve(lambda server: server.add_generic_rpc_handlers((Absent(),)))
    store = sandbox_pb2_grpc.StoreStub(channel)
    code, text = await refusal(store.Get(sandbox_pb2.StoreGetRequest(sandbox_id="s")))
    assert code == "UNIMPLEMENTED"
    assert text.startswith(
        "/containerd.services.sandbox.v1.Store/Get: this version does not offer the sandbox"
    )
    transfer = transfer_pb2_grpc.TransferStub(channel).Transfer(transfer_pb2.TransferRequest())
    listing = mounts_pb2_grpc.MountsStub(channel).List(mounts_pb2.ListRequest()).read()
    stream = streaming_pb2_grpc.StreamingStub(channel).Stream(iter([Any(type_url="x")]))
    for call in (transfer, listing, stream.read()):
        code, text = await refusal(call)
        assert code == "UNIMPLEMENTED"
        assert "this version does not offer" in text


async def test_an_unknown_service_is_left_to_grpc(serve: Serve) -> None:
    channel = await serve(lambda server: server.add_generic_rpc_handlers((Absent(),)))
    call = channel.unary_unary("/some.Service/Method")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
