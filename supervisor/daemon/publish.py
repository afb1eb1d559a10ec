"""`container-supervisor publish`: the way of old shims to tell an event, over gRPC.

containerd: cmd/containerd/command/publish.go. Standard input holds an encoded google.protobuf.Any.
"""

from __future__ import annotations

import grpc.aio
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from supervisor.api.services.events.v1 import events_pb2 as pb
from supervisor.api.services.events.v1 import events_pb2_grpc as rpc
from supervisor.errors import InvalidArgument, from_code
from supervisor.ttrpc.peer import plain_path

TIMEOUT_SECONDS = 10.0


async def publish(address: str | None, namespace: str, topic: str, payload: bytes) -> None:
    """Publish one event to the daemon at `address`; raises what it answers."""
    if not address:
        raise InvalidArgument("publish needs --address SOCKET before the command")
    try:
        event = Any.FromString(payload)
    except DecodeError as error:
        raise InvalidArgument(f"standard input is not an encoded google.protobuf.Any: {error}") from error
    async with grpc.aio.insecure_channel(f"unix:{plain_path(address)}") as channel:
        try:
            await rpc.EventsStub(channel).Publish(
                pb.PublishRequest(topic=topic, event=event),
                metadata=(("containerd-namespace", namespace),),
                timeout=TIMEOUT_SECONDS,
            )
        except grpc.aio.AioRpcError as error:
            raise from_code(error.code().value[0], f"publish to {address}: {error.details()}") from error
