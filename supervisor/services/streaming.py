"""containerd.services.streaming.v1.Streaming (containerd: plugins/services/streaming)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.streaming.v1 import streaming_pb2 as pb
from supervisor.errors import InvalidArgument
from supervisor.services.context import Context, lease_of, namespace_of
from supervisor.services.streams import Stream, Streams, is_a, packed


class Streaming:
    """Keeps a stream open under the name that its first message says."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Streaming"]

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def Stream(
        self, requests: AsyncIterator[AnyMessage], context: Context
    ) -> AsyncIterator[AnyMessage]:
        """Register, say so by an empty message, and pass messages both ways until either side ends."""
        namespace = namespace_of(context)
        first = await anext(requests, None)
        if first is None or not is_a(first, pb.StreamInit):
            raise InvalidArgument("the first message of a stream must be a StreamInit with its id")
        name = pb.StreamInit.FromString(first.value).id
        with self._streams.registered(namespace, name, lease_of(context)) as stream:
            yield packed(Empty())
            listening = asyncio.create_task(_listen(requests, stream))
            try:
                async for message in stream.outgoing():
                    yield message
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)


async def _listen(requests: AsyncIterator[AnyMessage], stream: Stream) -> None:
    try:
        async for request in requests:
            await stream.take(request)
    finally:
        await stream.end()
