"""A real grpc.aio server on a socket in a temporary folder, with the services a test names."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from supervisor.metadata.database import Database
from supervisor.metadata.store import Store
from supervisor.services.interceptors import Errors

Register = Callable[[grpc.aio.Server], None]
Serve = Callable[[Register], Awaitable[grpc.aio.Channel]]


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    with Database(tmp_path / "metadata.db") as database:
        yield Store(database)


@pytest_asyncio.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """`channel = await serve(register)`: register adds servicers to the server it is given."""
    server = grpc.aio.server(interceptors=[Errors()])
    opened: list[grpc.aio.Channel] = []

    async def start(register: Register) -> grpc.aio.Channel:
        register(server)
        address = f"unix:{tmp_path}/test.sock"
        server.add_insecure_port(address)
        await server.start()
        opened.append(grpc.aio.insecure_channel(address))
        return opened[0]

    yield start
    for channel in opened:
        await channel.close()
    await server.stop(None)


@pytest.fixture
def blue() -> tuple[tuple[str, str], ...]:
    """Call metadata of the namespace `blue`."""
    return (("containerd-namespace", "blue"),)
