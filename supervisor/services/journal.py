"""supervisor.services.events.v1.Journal: events from any place in the journal (containerd keeps none).

A subscriber is served from the store alone, page by page; the exchange only says that there is more. So
there is no seam between stored and live events at which one could be lost or doubled, and nothing
is queued for a slow subscriber: it may be as late as the journal is long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from supervisor.api.services.supervisor import events_pb2 as pb
from supervisor.events.exchange import Exchange
from supervisor.events.payload import fields_of
from supervisor.metadata import events
from supervisor.metadata.store import Store
from supervisor.model.filters import parse_all
from supervisor.model.predicate import predicate
from supervisor.services import convert
from supervisor.services.context import Context


class Journal:
    """Serves the journal; events of all namespaces, as containerd's Subscribe does."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Journal"]

    def __init__(self, store: Store, exchange: Exchange) -> None:
        self._store = store
        self._exchange = exchange

    async def Cursor(self, request: pb.CursorRequest, context: Context) -> pb.CursorResponse:
        """Where the journal begins and ends."""
        bounds = self._store.look_up(events.bounds)
        return pb.CursorResponse(oldest=bounds.oldest, newest=bounds.newest)

    async def Subscribe(
        self, request: pb.SubscribeRequest, context: Context
    ) -> AsyncIterator[pb.SubscribeResponse]:
        """Events behind the cursor that pass the filters, and how far the journal was read."""
        wanted = predicate(parse_all(request.filters))
        with self._exchange.watch() as growth:
            newest = self._store.look_up(events.last_sequence)
            cursor = request.cursor if request.HasField("cursor") else newest
            page = await self._store.read(events.after, cursor)
            yield pb.SubscribeResponse(sequence=cursor)
            while page or await growth.grown():
                told = cursor
                for envelope in page:
                    cursor = envelope.sequence
                    if wanted(fields_of(envelope)):
                        told = cursor
                        yield pb.SubscribeResponse(sequence=cursor, event=convert.from_envelope(envelope))
                if told < cursor:
                    yield pb.SubscribeResponse(sequence=cursor)
                page = await self._store.read(events.after, cursor)
