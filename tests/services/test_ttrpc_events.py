"""The daemon's ttrpc socket: contract sections 1.1 and 10."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.ttrpc.events.v1.events_pb2 import ForwardRequest
from supervisor.api.types.event_pb2 import Envelope
from supervisor.errors import InvalidArgument, Unimplemented
from supervisor.metadata import events
from supervisor.metadata.store import Store
from supervisor.services import ttrpc_events
from supervisor.ttrpc.aio import Client, Server

PAYLOAD = Any(type_url="nobody.Knows", value=b"\x00\xff")


@pytest_asyncio.fixture
async def client(store: Store, tmp_path: Path) -> AsyncIterator[Client]:
    async with Server(tmp_path / "ttrpc", ttrpc_events.services(store)):
        connected = await Client.connect(str(tmp_path / "ttrpc"))
        yield connected
        connected.close()


async def forward(client: Client, envelope: Envelope | None) -> None:
    request = ForwardRequest(envelope=envelope)
    await client.call(ttrpc_events.SERVICE, "Forward", request, Empty, timeout=10)


async def test_an_event_is_passed_on_unchanged(client: Client, store: Store) -> None:
    """10: a missing timestamp counts as 1970 and passes; so does a payload of an unknown type."""
    stamped = Envelope(namespace="blue", topic="/mine/a", event=PAYLOAD)
    stamped.timestamp.FromNanoseconds(1_000_000_002)
    await forward(client, stamped)
    await forward(client, Envelope(namespace="blue", topic="/mine/b"))
    first, second = await store.read(events.since, 0, 10)
    assert (first.timestamp, first.namespace, first.topic) == (1_000_000_002, "blue", "/mine/a")
    assert first.event is not None
    assert (first.event.type_url, first.event.value) == (PAYLOAD.type_url, PAYLOAD.value)
    assert (second.timestamp, second.event) == (0, None)


@pytest.mark.parametrize(
    "envelope",
    [
        None,
        Envelope(topic="/a"),
        Envelope(namespace="a..b", topic="/a"),
        Envelope(namespace="a"),
        Envelope(namespace="a", topic="a"),
        Envelope(namespace="a", topic="/a/"),
    ],
    ids=str,
)
async def test_what_is_refused(client: Client, store: Store, envelope: Envelope | None) -> None:
    """10: namespace and topic are checked; 16: a request without an envelope crashes containerd."""
    with pytest.raises(InvalidArgument):
        await forward(client, envelope)
    assert await store.read(events.since, 0, 10) == []


@pytest.mark.parametrize(
    ("service", "method"), [(ttrpc_events.SERVICE, "Publish"), ("some.Service", "Forward")]
)
async def test_nothing_else_is_served(client: Client, service: str, method: str) -> None:
    """1.1, 10: code 12 for any other method or service."""
    with pytest.raises(Unimplemented):
        await client.call(service, method, ForwardRequest(), Empty, timeout=10)
