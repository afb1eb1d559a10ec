"""containerd.services.events.v1.Events (containerd: plugins/services/events)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.events.v1 import events_pb2 as pb
from supervisor.api.types import event_pb2
from supervisor.errors import InvalidArgument, SupervisorError
from supervisor.events.exchange import Exchange
from supervisor.events.payload import fields_of
from supervisor.events.places import Place, Places, Subscriber
from supervisor.metadata import events
from supervisor.metadata.store import Store
from supervisor.model.event import Envelope
from supervisor.model.filters import Filter, parse_all
from supervisor.model.predicate import Predicate, predicate
from supervisor.services import convert
from supervisor.services.context import Context, namespace_of


class Events:
    """Takes events into the journal and tells them to subscribers."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Events"]

    def __init__(self, store: Store, exchange: Exchange, places: Places | None = None) -> None:
        """Without `places`, no subscriber of an earlier daemon is known."""
        self._store = store
        self._exchange = exchange
        self._places = places

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
        """The events of all namespaces from now on that pass the filters.

        One who had the same subscription at the daemon before this one is told first what it missed.
        """
        filters = _filters(request)
        with self._exchange.subscribe(filters) as live, self._place(request, context) as place:
            try:
                if place.returning:
                    async with aclosing(self._missed(place.sequence, predicate(filters))) as missed:
                        async for envelope in missed:
                            yield convert.from_envelope(envelope)
                            place.mark(envelope.sequence)
                async for envelope in live:
                    if envelope.sequence > place.sequence:
                        yield convert.from_envelope(envelope)
                        place.mark(envelope.sequence)
            finally:
                place.lasting = self._exchange.closed

    def _place(self, request: pb.SubscribeRequest, context: Context) -> AbstractContextManager[Place]:
        newest = self._store.look_up(events.last_sequence)
        if self._places is None or context.peer is None:
            return nullcontext(Place(newest))
        return self._places.kept(Subscriber.of(context.peer.pid, request.filters), newest)

    async def _missed(self, sequence: int, wanted: Predicate) -> AsyncGenerator[Envelope, None]:
        """What the journal keeps behind an event, as far as it is wanted."""
        while page := await self._store.read(events.since, sequence, events.PAGE):
            for envelope in page:
                if wanted(fields_of(envelope)):
                    yield envelope
            sequence = page[-1].sequence


def _filters(request: pb.SubscribeRequest) -> Sequence[Filter]:
    """The request's filters; a malformed one is UNKNOWN here, as in containerd (contract 10)."""
    try:
        return parse_all(request.filters)
    except InvalidArgument as error:
        raise SupervisorError(f"subscription error: {error.wire_text()}") from None
