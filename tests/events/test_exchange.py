"""Subscriptions: order, filters, the bound, threads, the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from supervisor.errors import ResourceExhausted
from supervisor.events.exchange import Exchange, Subscription
from supervisor.model.event import Envelope
from supervisor.model.filters import parse_all
from supervisor.model.instant import Nanoseconds


def events(count: int, namespace: str = "blue", start: int = 1) -> Sequence[Envelope]:
    return [Envelope(Nanoseconds(n), namespace, f"/n/{n}", None, n) for n in range(start, start + count)]


async def take(subscription: Subscription, count: int) -> list[int]:
    return [(await asyncio.wait_for(anext(subscription), 10)).sequence for _ in range(count)]


async def rest(subscription: Subscription) -> list[int]:
    return [envelope.sequence async for envelope in subscription]


async def test_every_subscriber_sees_the_order_of_the_journal() -> None:
    exchange = Exchange(asyncio.get_running_loop())
    with exchange.subscribe() as one, exchange.subscribe() as two:
        for first in (1, 4):
            exchange.tell(events(3, start=first))
        assert await take(one, 6) == await take(two, 6) == [1, 2, 3, 4, 5, 6]


async def test_filters() -> None:
    exchange = Exchange(asyncio.get_running_loop())
    with exchange.subscribe(parse_all(["namespace==aqua,topic~=|^/n/[57]|", 'topic=="/n/1"'])) as some:
        exchange.tell([*events(3), *events(4, "aqua", start=4)])
        assert await take(some, 3) == [1, 5, 7]


async def test_only_events_since_the_subscription() -> None:
    exchange = Exchange(asyncio.get_running_loop())
    exchange.tell(events(2))
    await asyncio.sleep(0)
    with exchange.subscribe() as late:
        exchange.tell(events(1, start=3))
        assert await take(late, 1) == [3]


async def test_one_that_does_not_keep_up_gets_its_queue_and_then_the_error() -> None:
    exchange = Exchange(asyncio.get_running_loop(), queue_bound=3)
    with exchange.subscribe() as slow, exchange.subscribe() as quick:
        for event in events(5):
            exchange.tell([event])
            await take(quick, 1)
        assert await take(slow, 3) == [1, 2, 3]
        with pytest.raises(ResourceExhausted, match="more than 3 events"):
            await take(slow, 1)


async def test_told_from_another_thread_while_a_subscriber_waits() -> None:
    exchange = Exchange(asyncio.get_running_loop())
    with exchange.subscribe() as subscription:
        waiting = asyncio.ensure_future(take(subscription, 2))
        await asyncio.sleep(0)
        thread = threading.Thread(target=exchange.tell, args=(events(2),))
        thread.start()
        assert await waiting == [1, 2]
        thread.join()


async def test_close_ends_the_subscriptions_behind_what_is_queued() -> None:
    exchange = Exchange(asyncio.get_running_loop())
    with exchange.subscribe() as subscription:
        exchange.tell(events(2))
        await asyncio.sleep(0)
        exchange.close()
        assert await rest(subscription) == [1, 2]


async def test_a_subscription_that_ended_is_told_nothing() -> None:
    exchange = Exchange(asyncio.get_running_loop())
    with exchange.subscribe() as subscription:
        pass
    exchange.tell(events(1))
    await asyncio.sleep(0)
    subscription.end()
    assert await rest(subscription) == []


def test_telling_a_closed_loop_is_no_error() -> None:
    loop = asyncio.new_event_loop()
    exchange = Exchange(loop)
    loop.close()
    exchange.tell(events(1))


async def test_a_bell_rings_for_its_topics_only() -> None:
    """From the writer's thread; it holds nothing, and rings no more behind its context."""

    def envelope(topic: str) -> Envelope:
        return Envelope(Nanoseconds(1), "blue", topic, None)

    exchange = Exchange(asyncio.get_running_loop())
    with exchange.bell(frozenset(("/a", "/b"))) as rung:
        await asyncio.to_thread(exchange.tell, [envelope("/c")])
        await asyncio.sleep(0)
        assert not rung.is_set()
        await asyncio.to_thread(exchange.tell, [envelope("/c"), envelope("/b")])
        async with asyncio.timeout(5):
            await rung.wait()
        rung.clear()
    await asyncio.to_thread(exchange.tell, [envelope("/a")])
    await asyncio.sleep(0)
    assert not rung.is_set()
