"""The asyncio client and server, against each other and against the blocking client: contract tasks 1."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from supervisor.api.runtime.task.v3 import shim_pb2 as task
from supervisor.errors import DeadlineExceeded, NotFound, ResourceExhausted, Unimplemented
from supervisor.ttrpc.aio import Client, Server
from supervisor.ttrpc.calls import Call, ConnectionClosed, Method
from supervisor.ttrpc.wire import MAX_PAYLOAD
from tests.ttrpc.client import Client as BlockingClient

SERVICE = "test.Service"


class Handlers:
    def __init__(self) -> None:
        self.waiting = 0
        self.cancelled = 0
        self.release = asyncio.Event()

    async def echo(self, request: task.StateRequest, call: Call) -> task.StateResponse:
        return task.StateResponse(id=request.id)

    async def fail(self, request: task.StateRequest, call: Call) -> task.StateResponse:
        raise NotFound(f"no {request.id}")

    async def big(self, request: task.StateRequest, call: Call) -> task.StateResponse:
        return task.StateResponse(id="x" * int(request.id))

    async def wait(self, request: task.WaitRequest, call: Call) -> task.WaitResponse:
        self.waiting += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return task.WaitResponse(exit_status=3)

    def services(self) -> dict[str, dict[str, Method]]:
        return {
            SERVICE: {
                "Echo": Method(task.StateRequest, self.echo),
                "Fail": Method(task.StateRequest, self.fail),
                "Big": Method(task.StateRequest, self.big),
                "Wait": Method(task.WaitRequest, self.wait),
            }
        }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest_asyncio.fixture
async def handlers(path: Path) -> AsyncIterator[Handlers]:
    made = Handlers()
    async with Server(path, made.services()):
        yield made
    assert not os.access(path, os.F_OK)


@pytest_asyncio.fixture
async def client(handlers: Handlers, path: Path) -> AsyncIterator[Client]:
    connected = await Client.connect(f"unix://{path}")
    yield connected
    connected.close()
    await connected.closed


async def echo(client: Client, text: str = "x") -> str:
    return (await client.call(SERVICE, "Echo", task.StateRequest(id=text), task.StateResponse)).id


async def wait(client: Client, timeout: float | None = None) -> int:
    answer = await client.call(SERVICE, "Wait", task.WaitRequest(), task.WaitResponse, timeout=timeout)
    return answer.exit_status


async def until_waiting(client: Client, handlers: Handlers, number: int) -> None:
    while handlers.waiting < number:
        await echo(client)


async def test_calls(client: Client) -> None:
    assert await asyncio.gather(*(echo(client, str(n)) for n in range(100))) == [str(n) for n in range(100)]
    with pytest.raises(NotFound, match=r"^no z$"):
        await client.call(SERVICE, "Fail", task.StateRequest(id="z"), task.StateResponse)
    with pytest.raises(Unimplemented):
        await client.call(SERVICE, "None", task.StateRequest(), task.StateResponse)


async def test_the_socket_is_not_for_everybody(handlers: Handlers, path: Path) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660


async def test_a_stale_socket_is_replaced(path: Path) -> None:
    for _ in range(2):
        async with Server(path, {}):
            os.link(path, f"{path}.kept")
        os.rename(f"{path}.kept", path)
    async with Server(path, {}):
        pass


async def test_waiting_delays_nothing(client: Client, handlers: Handlers) -> None:
    waits = [asyncio.ensure_future(wait(client)) for _ in range(50)]
    await until_waiting(client, handlers, 50)
    handlers.release.set()
    assert await asyncio.gather(*waits) == [3] * 50


async def test_a_deadline_ends_both_sides(client: Client, handlers: Handlers) -> None:
    with pytest.raises(DeadlineExceeded):
        await wait(client, timeout=0.05)
    while not handlers.cancelled:
        await echo(client)


async def test_giving_up_leaves_the_connection(client: Client, handlers: Handlers) -> None:
    waiting = asyncio.ensure_future(wait(client))
    await until_waiting(client, handlers, 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    handlers.release.set()
    assert await echo(client, "on") == "on"


async def test_the_end_of_a_client_cancels_its_calls(handlers: Handlers, client: Client, path: Path) -> None:
    other = await Client.connect(str(path))
    waiting = asyncio.ensure_future(wait(other))
    await until_waiting(client, handlers, 1)
    other.close()
    with pytest.raises(ConnectionClosed, match="ttrpc: closed"):
        await waiting
    await other.closed
    with pytest.raises(ConnectionClosed):
        await echo(other)
    while not handlers.cancelled:
        await echo(client)


async def test_the_end_of_the_server_fails_calls(path: Path) -> None:
    handlers = Handlers()
    async with Server(path, handlers.services()):
        client = await Client.connect(str(path))
        waiting = asyncio.ensure_future(wait(client))
        await until_waiting(client, handlers, 1)
    with pytest.raises(ConnectionClosed):
        await waiting
    await client.closed


async def test_limits(client: Client) -> None:
    with pytest.raises(ResourceExhausted, match=f"maximum message size of {MAX_PAYLOAD}"):
        await client.call(SERVICE, "Big", task.StateRequest(id=str(MAX_PAYLOAD + 1)), task.StateResponse)
    with pytest.raises(ResourceExhausted):
        await echo(client, "x" * (MAX_PAYLOAD + 1))
    assert await echo(client) == "x"


async def test_with_the_blocking_client(handlers: Handlers, path: Path) -> None:
    """The pair that a shim and a daemon are."""

    def talk() -> list[str]:
        with BlockingClient(str(path)) as client:
            request = [task.StateRequest(id=str(number)) for number in range(50)]
            return [client.call(SERVICE, "Echo", one, task.StateResponse, timeout=20).id for one in request]

    with ThreadPoolExecutor(1) as pool:
        answers = await asyncio.get_running_loop().run_in_executor(pool, talk)
    assert answers == [str(number) for number in range(50)]


async def test_nobody_listens(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await Client.connect(str(path))
