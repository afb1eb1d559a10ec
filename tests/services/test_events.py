"""Events over gRPC: contract section 10."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from supervisor.api.events.container_pb2 import ContainerDelete
from supervisor.api.services.containers.v1 import containers_pb2, containers_pb2_grpc
from supervisor.api.services.events.v1 import events_pb2 as pb
from supervisor.api.services.events.v1 import events_pb2_grpc as rpc
from supervisor.api.types.event_pb2 import Envelope
from supervisor.events.exchange import Exchange
from supervisor.http2.server import Server
from supervisor.metadata.store import Store
from supervisor.services.containers import Containers
from supervisor.services.events import Events
from tests.services.conftest import Serve
from tests.services.refusal import refusal

Metadata = tuple[tuple[str, str], ...]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # the server's side has no event to wait for
            await asyncio.sleep(0.001)


@dataclass(frozen=True)
class Served:
    events: rpc.EventsStub
    containers: containers_pb2_grpc.ContainersStub
    exchange: Exchange
    channel: grpc.aio.Channel

    async def subscribe(self, *filters: str) -> grpc.aio.UnaryStreamCall[pb.SubscribeRequest, Envelope]:
        """Open a subscription and wait until the server has it: there is no message that says so."""
        before = self.exchange.subscribers
        call = self.events.Subscribe(pb.SubscribeRequest(filters=filters))
        await until(lambda: self.exchange.subscribers > before)
        return call


@pytest_asyncio.fixture
async def served(store: Store, serve: Serve) -> AsyncIterator[Served]:
    exchange = Exchange(asyncio.get_running_loop())
    store.database.tell(exchange.tell)

    def register(server: Server) -> None:
        server.add(Events(store, exchange))
        server.add(Containers(store))

    channel = await serve(register)
    yield Served(rpc.EventsStub(channel), containers_pb2_grpc.ContainersStub(channel), exchange, channel)


async def read(call: grpc.aio.UnaryStreamCall[pb.SubscribeRequest, Envelope]) -> Envelope:
    message = await asyncio.wait_for(call.read(), 10)
    assert isinstance(message, Envelope)
    return message


async def test_a_change_is_told(served: Served, blue: Metadata) -> None:
    call = await served.subscribe()
    runtime = containers_pb2.Container.Runtime(name="r")
    wanted = containers_pb2.Container(id="c1", runtime=runtime)
    request = containers_pb2.CreateContainerRequest(container=wanted)
    made = (await served.containers.Create(request, metadata=blue)).container
    await served.containers.Delete(containers_pb2.DeleteContainerRequest(id="c1"), metadata=blue)
    first, second = await read(call), await read(call)
    assert (first.namespace, first.topic) == ("blue", "/containers/create")
    assert first.timestamp == made.created_at
    assert second.event.type_url == "containerd.events.ContainerDelete"
    assert ContainerDelete.FromString(second.event.value).id == "c1"
    call.cancel()


async def test_publish_and_forward(served: Served, blue: Metadata) -> None:
    call = await served.subscribe("topic~=^/mine/")
    payload = Any(type_url="nobody.Knows", value=b"\x00\xff")
    await served.events.Publish(pb.PublishRequest(topic="/other"), metadata=blue)
    await served.events.Publish(pb.PublishRequest(topic="/mine/1", event=payload), metadata=blue)
    stamped = Envelope(
        timestamp=Timestamp(seconds=1, nanos=2), namespace="aqua", topic="/mine/2", event=payload
    )
    await served.events.Forward(pb.ForwardRequest(envelope=stamped))
    bare = Envelope(namespace="aqua", topic="/mine/3")
    await served.events.Forward(pb.ForwardRequest(envelope=bare), metadata=blue)
    published = await read(call)
    assert (published.namespace, published.topic, published.event) == ("blue", "/mine/1", payload)
    assert published.timestamp.seconds > 1_000_000
    assert await read(call) == stamped
    third = await read(call)
    assert (third.topic, third.HasField("event"), third.timestamp.seconds) == ("/mine/3", False, 0)
    call.cancel()


async def test_a_subscriber_that_leaves_is_forgotten(served: Served) -> None:
    call = await served.subscribe()
    call.cancel()
    await until(lambda: served.exchange.subscribers == 0)


async def test_the_stream_ends_well_when_the_exchange_closes(served: Served) -> None:
    call = await served.subscribe()
    served.exchange.close()
    assert await asyncio.wait_for(call.read(), 10) is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_refusals(served: Served, blue: Metadata) -> None:
    events = served.events
    assert (await refusal(events.Publish(pb.PublishRequest(topic="/a"))))[0] == "FAILED_PRECONDITION"
    for topic in ("", "a", "/", "/a/", "/a b"):
        call = events.Publish(pb.PublishRequest(topic=topic), metadata=blue)
        assert (await refusal(call))[0] == "INVALID_ARGUMENT"
    for request in (
        pb.ForwardRequest(),
        pb.ForwardRequest(envelope=Envelope(topic="/a")),
        pb.ForwardRequest(envelope=Envelope(namespace="a", topic="a")),
    ):
        assert (await refusal(events.Forward(request)))[0] == "INVALID_ARGUMENT"


async def test_a_bad_filter_is_unknown_with_the_place_marked(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await served.events.Subscribe(pb.SubscribeRequest(filters=["topic==/tasks/start"])).read()
    assert raised.value.code() is grpc.StatusCode.UNKNOWN
    assert (raised.value.details() or "").startswith(
        "subscription error: filters: parse error: [topic== >|/|< tasks/start]"
    )
