"""The journal over gRPC: resuming from a cursor, retention, and subscribers that do not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any as Anything
from typing import TypeVar, cast

import grpc.aio
import pytest_asyncio
from google.protobuf.any_pb2 import Any

from supervisor.api.services.events.v1 import events_pb2, events_pb2_grpc
from supervisor.api.services.supervisor import events_pb2 as pb
from supervisor.api.services.supervisor import events_pb2_grpc as rpc
from supervisor.events.exchange import Exchange
from supervisor.http2.server import Server
from supervisor.metadata import events
from supervisor.metadata.store import Store
from supervisor.model.any import Any as Payload
from supervisor.model.identifiers import Namespace
from supervisor.services.events import Events
from supervisor.services.journal import Journal
from tests.services.conftest import Serve
from tests.services.refusal import refusal

BLUE = Namespace("blue")
BOUND = 100
KIB = Payload("t", b"x" * 1024)
STALLED_BYTES = 8 << 20
"""More than gRPC may hold for a subscriber that does not read: its window and its buffers."""

Stream = grpc.aio.UnaryStreamCall[pb.SubscribeRequest, pb.SubscribeResponse]


@dataclass(frozen=True)
class Served:
    store: Store
    exchange: Exchange
    journal: rpc.JournalStub
    events: events_pb2_grpc.EventsStub

    async def publish(self, count: int, payload: Payload | None = None, topic: str = "/n") -> None:
        """Write events in one transaction each, as many as can at once."""
        made = (self.store.write(events.publish, BLUE, topic, payload) for _ in range(count))
        await asyncio.gather(*made)

    async def subscribe(self, cursor: int | None = None, *filters: str) -> Stream:
        """A subscription that holds; its first message was read."""
        call = self.journal.Subscribe(pb.SubscribeRequest(cursor=cursor, filters=filters))
        first = await asyncio.wait_for(call.read(), 10)
        assert not first.HasField("event")
        assert cursor is None or first.sequence == cursor
        return call


@pytest_asyncio.fixture
async def served(store: Store, serve: Serve) -> AsyncIterator[Served]:
    exchange = Exchange(asyncio.get_running_loop(), queue_bound=BOUND)
    store.database.tell(exchange.tell)

    def register(server: Server) -> None:
        server.add(Journal(store, exchange))
        server.add(Events(store, exchange))

    channel = await serve(register)
    yield Served(store, exchange, rpc.JournalStub(channel), events_pb2_grpc.EventsStub(channel))


async def take(call: Stream, count: int) -> list[int]:
    """The sequence numbers of the next events; messages without one are passed over."""
    found: list[int] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            message = await call.read()
            assert isinstance(message, pb.SubscribeResponse), f"ended after {len(found)}"
            if message.HasField("event"):
                found.append(message.sequence)
    return found


Message = TypeVar("Message")


async def cut_off(call: grpc.aio.UnaryStreamCall[Anything, Message]) -> tuple[list[Message], str, str]:
    """All that comes, and the code and text of the error behind it."""
    found: list[Message] = []
    try:
        async with asyncio.timeout(60):
            while (message := await call.read()) is not grpc.aio.EOF:
                found.append(cast(Message, message))
    except grpc.aio.AioRpcError as error:
        return found, error.code().name, error.details() or ""
    raise AssertionError("the stream ended well")


async def test_stored_events_and_then_live_ones(served: Served) -> None:
    await served.publish(5)
    call = await served.subscribe(2)
    assert await take(call, 3) == [3, 4, 5]
    await served.publish(2)
    assert await take(call, 2) == [6, 7]
    call.cancel()


async def test_without_a_cursor_only_what_happens_from_now_on(served: Served) -> None:
    await served.publish(3)
    call = await served.subscribe()
    await served.publish(1)
    assert await take(call, 1) == [4]
    call.cancel()


async def test_no_gap_and_no_double_while_events_are_written_and_pages_are_read(served: Served) -> None:
    count = 3 * events.PAGE
    writing = asyncio.ensure_future(served.publish(count))
    calls = [await served.subscribe(0) for _ in range(3)]
    everything = list(range(1, count + 1))
    assert await asyncio.gather(*(take(call, count) for call in calls)) == [everything] * 3
    await writing
    for call in calls:
        call.cancel()


async def test_filters_and_how_far_the_journal_was_read(served: Served) -> None:
    """A cursor moves on although nothing passes, so that it does not fall behind what is kept."""
    call = await served.subscribe(0, 'topic=="/wanted"')
    await served.publish(4)
    assert (await asyncio.wait_for(call.read(), 10)) == pb.SubscribeResponse(sequence=4)
    await served.publish(1, topic="/wanted")
    message = await asyncio.wait_for(call.read(), 10)
    assert (message.sequence, message.event.topic, message.event.namespace) == (5, "/wanted", "blue")
    call.cancel()


async def test_a_cursor_older_than_what_is_kept(served: Served) -> None:
    await served.publish(10)
    await served.store.write(events.trim, 4)
    bounds = await served.journal.Cursor(pb.CursorRequest())
    assert (bounds.oldest, bounds.newest) == (7, 10)
    code, text = await refusal(served.journal.Subscribe(pb.SubscribeRequest(cursor=5)).read())
    assert code == "OUT_OF_RANGE"
    assert "the oldest is 7" in text
    assert "cursor 6" in text
    call = await served.subscribe(6)
    assert await take(call, 4) == [7, 8, 9, 10]
    call.cancel()


async def test_a_cursor_of_another_store(served: Served) -> None:
    await served.publish(1)
    code, text = await refusal(served.journal.Subscribe(pb.SubscribeRequest(cursor=9)).read())
    assert (code, "not one of this store" in text) == ("OUT_OF_RANGE", True)


async def test_an_empty_journal_and_one_that_forgot_everything(served: Served) -> None:
    bounds = await served.journal.Cursor(pb.CursorRequest())
    assert (bounds.oldest, bounds.newest) == (1, 0)
    await served.publish(3)
    await served.store.write(events.trim, 0)
    bounds = await served.journal.Cursor(pb.CursorRequest())
    assert (bounds.oldest, bounds.newest) == (4, 3)
    call = await served.subscribe(3)
    await served.publish(1)
    assert await take(call, 1) == [4]
    call.cancel()


async def test_a_bad_filter(served: Served) -> None:
    call = served.journal.Subscribe(pb.SubscribeRequest(filters=["topic==/a"]))
    assert (await refusal(call.read()))[0] == "INVALID_ARGUMENT"


async def test_the_stream_ends_well_when_the_daemon_stops(served: Served) -> None:
    call = await served.subscribe()
    served.exchange.close()
    assert await asyncio.wait_for(call.read(), 10) is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_one_that_does_not_read_misses_nothing_of_the_journal(served: Served) -> None:
    call = await served.subscribe(0)
    count = STALLED_BYTES // 1024 + 1000
    await served.publish(count, KIB)
    await asyncio.wait_for(served.journal.Cursor(pb.CursorRequest()), 10)  # nobody else is stalled
    assert await take(call, count) == list(range(1, count + 1))
    call.cancel()


async def test_one_that_is_slower_than_the_journal_forgets_is_told_so(served: Served) -> None:
    call = await served.subscribe(0)
    count = STALLED_BYTES // 1024 + 3 * events.PAGE
    await served.publish(count, KIB)
    while await served.store.write(events.trim, 10):
        pass
    messages, code, text = await cut_off(call)
    assert code == "OUT_OF_RANGE"
    assert "events.keep" in text
    found = [message.sequence for message in messages]
    assert found == list(range(1, len(found) + 1))
    assert len(found) < count - 10


async def test_a_plain_subscriber_that_does_not_read_is_cut_off_at_its_bound(served: Served) -> None:
    """Contract 10 with our bound: what it was sent has no hole, and the error says what it was."""
    slow = served.events.Subscribe(events_pb2.SubscribeRequest())
    async with asyncio.timeout(10):
        while not served.exchange.subscribers:  # noqa: ASYNC110  # the server's side has no event for it
            await asyncio.sleep(0.001)
    count = STALLED_BYTES // 1024 + 10 * BOUND
    for number in range(0, count, BOUND // 2):
        topic = f"/n/{number}"
        await served.publish(BOUND // 2, KIB, topic)
    request = events_pb2.PublishRequest(topic="/quick", event=Any(type_url="t"))
    await asyncio.wait_for(served.events.Publish(request, metadata=(("containerd-namespace", "blue"),)), 10)
    messages, code, text = await cut_off(slow)
    assert code == "RESOURCE_EXHAUSTED"
    assert f"more than {BOUND} events" in text
    topics = [message.topic for message in messages]
    assert BOUND <= len(topics) < count
    expected = [f"/n/{n}" for n in range(0, count, BOUND // 2) for _ in range(BOUND // 2)]
    assert topics == expected[: len(topics)]
    assert (len(topics) - BOUND) * 1024 < STALLED_BYTES
