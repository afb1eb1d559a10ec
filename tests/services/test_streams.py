"""Streams that a client opens for its transfers: their bounds, their names, their ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from supervisor.api.types.transfer import streaming_pb2
from supervisor.daemon.parts import _end_streams
from supervisor.errors import AlreadyExists, Cancelled, InvalidArgument, NotFound
from supervisor.metadata import leases
from supervisor.metadata.database import Database
from supervisor.model.identifiers import Namespace
from supervisor.model.lease import Lease
from supervisor.services.pipes import Incoming, Outgoing
from supervisor.services.streams import INCOMING_BYTES, SENDING, Stream, Streams, packed

BLUE, RED = Namespace("blue"), Namespace("red")


def running(scenario: Callable[[], Awaitable[Any]]) -> Any:
    async def timed() -> Any:
        async with asyncio.timeout(30):
            return await scenario()

    return asyncio.run(timed())


def data(size: int) -> streaming_pb2.Data:
    return streaming_pb2.Data(data=bytes(size))


async def settled() -> None:
    """Let all that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_name_is_of_its_namespace_and_as_long_as_the_stream() -> None:
    async def scenario() -> None:
        streams = Streams()
        with streams.registered(BLUE, "one") as stream:
            assert streams.get(BLUE, "one") is stream
            with pytest.raises(NotFound, match='stream "one"'):
                streams.get(RED, "one")
            with pytest.raises(AlreadyExists), streams.registered(BLUE, "one"):
                pass
            with streams.registered(RED, "one") as other:
                assert other is not stream
        with pytest.raises(NotFound):
            streams.get(BLUE, "one")
        with pytest.raises(InvalidArgument), streams.registered(BLUE, ""):
            pass

    running(scenario)


def test_a_client_that_is_far_ahead_waits() -> None:
    async def scenario() -> None:
        stream = Stream()
        for _ in range(4):
            await stream.take(packed(data(INCOMING_BYTES // 4)))
        ahead = asyncio.create_task(stream.take(packed(data(1))))
        await settled()
        assert not ahead.done()
        assert await stream.receive() is not None
        await ahead
        await stream.end()
        rest = [await stream.receive() for _ in range(6)]
        assert [one is None for one in rest] == [False] * 4 + [True] * 2

    running(scenario)


def test_bytes_wait_for_a_client_that_does_not_read() -> None:
    """However large the window that it has given."""

    async def scenario() -> None:
        stream = Stream()
        sending = asyncio.create_task(stream.send([data(1)] * (SENDING + 2)))
        await settled()
        assert not sending.done()
        got: list[AnyMessage] = []
        async for message in stream.outgoing():
            got.append(message)
            await settled()
            if sending.done():
                stream.close()
        assert len(got) == SENDING + 2

    running(scenario)


def test_one_that_sends_to_a_client_that_is_gone_is_told() -> None:
    async def scenario() -> None:
        streams = Streams()
        with streams.registered(BLUE, "one") as stream:
            sending = asyncio.create_task(stream.send([data(1)] * (SENDING + 2)))
            await settled()
        with pytest.raises(Cancelled):
            await sending
        with pytest.raises(Cancelled):
            await stream.send([data(1)])
        stream.offer(data(1))
        await stream.told()

    running(scenario)


def test_what_was_told_has_been_taken_by_the_connection() -> None:
    async def scenario() -> None:
        stream = Stream()
        stream.offer(data(1))
        told = asyncio.create_task(stream.told())
        await settled()
        assert not told.done()
        listening = asyncio.create_task(_all(stream))
        await told
        stream.close()
        assert len(await listening) == 1

    running(scenario)


async def _all(stream: Stream) -> list[AnyMessage]:
    return [message async for message in stream.outgoing()]


def test_a_stream_ends_with_its_lease(tmp_path: Path) -> None:
    """And not with another one, nor when it was opened without any."""

    async def scenario() -> None:
        streams = Streams()
        with Database(tmp_path / "metadata.db") as database:
            for name in ("gone", "stays"):
                database.write(lambda tx, name=name: leases.create(tx, BLUE, Lease(name)))  # type: ignore[misc]
            with (
                streams.registered(BLUE, "a", "gone") as first,
                streams.registered(BLUE, "b", "stays") as second,
                streams.registered(BLUE, "c") as third,
            ):
                await _end_streams(streams, database)
                database.write(lambda tx: leases.remove(tx, BLUE, "gone"))
                await _end_streams(streams, database)
                assert await _all(first) == []
                for open_one in (second, third):
                    open_one.offer(data(1))
                    open_one.close()
                    assert len(await _all(open_one)) == 1
            assert streams.leases() == []

    running(scenario)


def test_bytes_go_through_windows() -> None:
    """One side sends no more than the other has room for, and all of it arrives."""

    async def scenario() -> None:
        there, back = Stream(), Stream()
        incoming, outgoing = Incoming(there), Outgoing(back)
        sent = bytes(range(256)) * 20_000

        def echo() -> None:
            while piece := incoming.read(100_000):
                outgoing.write(piece)

        work = asyncio.create_task(asyncio.to_thread(echo))
        feeding = asyncio.create_task(_feed(there, sent))
        got = bytearray()
        await back.take(packed(streaming_pb2.WindowUpdate(update=1000)))
        async for message in back.outgoing():
            got += streaming_pb2.Data.FromString(message.value).data
            await back.take(packed(streaming_pb2.WindowUpdate(update=50_000)))
            if len(got) == len(sent):
                back.close()
        await asyncio.gather(work, feeding)
        assert bytes(got) == sent

    running(scenario)


async def _feed(stream: Stream, payload: bytes) -> None:
    """As a client does: only as much as there is room for."""
    room, place = 0, 0
    async for message in stream.outgoing():
        room += streaming_pb2.WindowUpdate.FromString(message.value).update
        while room > 0 and place < len(payload):
            piece = payload[place : place + min(room, 32_768)]
            await stream.take(packed(streaming_pb2.Data(data=piece)))
            room, place = room - len(piece), place + len(piece)
        if place == len(payload):
            await stream.end()
            return
