"""containerd.services.events.v1.Events (containerd: plugins/services/events)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.events.v1 import events_pb2 as pb
from supervisor.api.types import event_pb2
from supervisor.errors import InvalidArgument, SupervisorError
from supervisor.events.exchange import Exchange
from supervisor.metadata import events
from supervisor.metadata.store import Store
from supervisor.model.filters import Filter, parse_all
from supervisor.services import convert
from supervisor.services.context import Context, namespace_of


class Events:
    """Takes events into the journal and tells them to subscribers."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Events"]

    def __init__(self, store: Store, exchange: Exchange) -> None:
        self._store = store
        self._exchange = exchange

    async def Publish(self, request: pb.PublishRequest, context: Context) -> Empty:
        """Write an event under the caller's namespace and the present time."""
        event = convert.optional_any(request, "event")
        await self._store.write(events.publish, namespace_of(context), request.topic, event)
        return Empty()

    async def Forward(self, request: pb.ForwardRequest, context: Context) -> Empty:
        """Write an event as its sender stamped it; the namespace header is not read."""
        convert.require(request, "envelope")
        await self._store.write(events.forward, convert.to_envelope(request.envelope))
        return Empty()

    async def Subscribe(
        self, request: pb.SubscribeRequest, context: Context
    ) -> AsyncIterator[event_pb2.Envelope]:
        """The events of all namespaces from now on that pass the filters."""
        with self._exchange.subscribe(_filters(request)) as subscription:
            async for envelope in subscription:
                yield convert.from_envelope(envelope)


def _filters(request: pb.SubscribeRequest) -> Sequence[Filter]:
    """The request's filters; a malformed one is UNKNOWN here, as in containerd (contract 10)."""
    try:
        return parse_all(request.filters)
    except InvalidArgument as error:
        raise SupervisorError(f"subscription error: {error.wire_text()}") from None
