"""Subscribers of a daemon that was replaced come back and miss nothing; others are told nothing old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from supervisor.api.services.events.v1 import events_pb2 as pb
from supervisor.api.services.events.v1 import events_pb2_grpc as rpc
from supervisor.api.types.event_pb2 import Envelope
from supervisor.events.exchange import Exchange
from supervisor.events.places import Places
from supervisor.http2.server import Server
from supervisor.metadata import events
from supervisor.metadata.store import Store
from supervisor.model.identifiers import Namespace
from supervisor.services.events import Events

BLUE = Namespace("blue")
Call = grpc.aio.UnaryStreamCall[pb.SubscribeRequest, Envelope]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # the server's side has no event to wait for
            await asyncio.sleep(0.001)


@dataclass(frozen=True)
class Daemon:
    events: rpc.EventsStub
    exchange: Exchange

    async def subscribe(self, *filters: str) -> Call:
        """A subscription that the server has."""
        before = self.exchange.subscribers
        call = self.events.Subscribe(pb.SubscribeRequest(filters=filters))
        await until(lambda: self.exchange.subscribers > before)
        return call


@asynccontextmanager
async def a_daemon(store: Store, folder: Path) -> AsyncIterator[Daemon]:
    """A daemon that ends as one that is told to stop."""
    exchange = Exchange(asyncio.get_running_loop())
    store.database.tell(exchange.tell)
    async with Server() as server:
        server.add(Events(store, exchange, Places(folder / "places")))
        await server.listen(folder / "d.sock")
        async with grpc.aio.insecure_channel(f"unix:{folder}/d.sock") as channel:
            yield Daemon(rpc.EventsStub(channel), exchange)
            exchange.close()
            await server.stop(2)


async def publish(store: Store, *topics: str) -> None:
    """Write events, in this order."""
    await asyncio.gather(*(store.write(events.publish, BLUE, topic, None) for topic in topics))


async def topics(call: Call, count: int) -> list[str]:
    """The topics of the next events."""
    async with asyncio.timeout(10):
        found = [await call.read() for _ in range(count)]
    return [message.topic for message in found if isinstance(message, Envelope)]


async def test_what_happened_meanwhile_is_told_once_and_in_order(store: Store, tmp_path: Path) -> None:
    async with a_daemon(store, tmp_path) as daemon:
        await publish(store, "/tasks/old")
        call = await daemon.subscribe("topic~=^/tasks/")
        await publish(store, "/tasks/1", "/images/1")
        assert await topics(call, 1) == ["/tasks/1"]
    missed = [f"/tasks/{number}" for number in range(2, events.PAGE + 20)]
    await publish(store, *missed, "/images/2")
    async with a_daemon(store, tmp_path) as daemon:
        await publish(store, "/tasks/before")  # by a shim that is quicker than the subscriber
        call = await daemon.subscribe("topic~=^/tasks/")
        await publish(store, "/tasks/live")
        assert await topics(call, len(missed) + 2) == [*missed, "/tasks/before", "/tasks/live"]
        again = await daemon.subscribe("topic~=^/tasks/")
        await publish(store, "/tasks/last")
        assert await topics(call, 1) == await topics(again, 1) == ["/tasks/last"]


async def test_others_are_told_nothing_old(store: Store, tmp_path: Path) -> None:
    async with a_daemon(store, tmp_path) as daemon:
        await daemon.subscribe()
    await publish(store, "/tasks/missed")
    async with a_daemon(store, tmp_path) as daemon:
        call = await daemon.subscribe("topic~=^/tasks/")
        await publish(store, "/tasks/live")
        assert await topics(call, 1) == ["/tasks/live"]


async def test_one_who_left_does_not_come_back(store: Store, tmp_path: Path) -> None:
    async with a_daemon(store, tmp_path) as daemon:
        call = await daemon.subscribe()
        call.cancel()
        await until(lambda: daemon.exchange.subscribers == 0)
    await publish(store, "/tasks/missed")
    async with a_daemon(store, tmp_path) as daemon:
        call = await daemon.subscribe()
        await publish(store, "/tasks/live")
        assert await topics(call, 1) == ["/tasks/live"]
