"""Health over gRPC: contract section 13."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as rpc

from supervisor.services.health import Health
from tests.services.conftest import Serve
from tests.services.refusal import refusal

SERVING = pb.HealthCheckResponse.SERVING
NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING


@pytest_asyncio.fixture
async def health() -> Health:
    return Health()


@pytest_asyncio.fixture
async def stub(health: Health, serve: Serve) -> AsyncIterator[rpc.HealthStub]:
    channel = await serve(lambda server: server.add(health))
    yield rpc.HealthStub(channel)


async def test_check_and_list(stub: rpc.HealthStub, health: Health) -> None:
    assert (await stub.Check(pb.HealthCheckRequest())).status == SERVING
    refused = await refusal(stub.Check(pb.HealthCheckRequest(service="containerd")))
    assert refused == ("NOT_FOUND", "unknown service: not found")
    listed = await stub.List(pb.HealthListRequest())
    assert {name: answer.status for name, answer in listed.statuses.items()} == {"": SERVING}
    health.stop()
    assert (await stub.Check(pb.HealthCheckRequest())).status == NOT_SERVING


async def test_watch(stub: rpc.HealthStub, health: Health) -> None:
    call = stub.Watch(pb.HealthCheckRequest())
    assert (await asyncio.wait_for(call.read(), 10)).status == SERVING
    health.stop()
    assert (await asyncio.wait_for(call.read(), 10)).status == NOT_SERVING


async def test_watch_of_an_unknown_name_stays_open(stub: rpc.HealthStub) -> None:
    call = stub.Watch(pb.HealthCheckRequest(service="x"))
    assert (await asyncio.wait_for(call.read(), 10)).status == pb.HealthCheckResponse.SERVICE_UNKNOWN
    assert not call.done()
    call.cancel()
