"""A real server on a socket in a temporary folder, with the services a test names."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio

from supervisor.http2.server import Server
from supervisor.metadata.database import Database
from supervisor.metadata.store import Store
from supervisor.services.absent import SERVICES

Register = Callable[[Server], None]
Serve = Callable[[Register], Awaitable[grpc.aio.Channel]]


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    with Database(tmp_path / "metadata.db") as database:
        yield Store(database)


@pytest_asyncio.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """`channel = await serve(register)`: register adds servicers to the server it is given."""
    opened: list[grpc.aio.Channel] = []
    async with Server(absent=SERVICES) as server:

        async def start(register: Register) -> grpc.aio.Channel:
            register(server)
            await server.listen(tmp_path / "test.sock")
            opened.append(grpc.aio.insecure_channel(f"unix:{tmp_path}/test.sock"))
            return opened[0]

        yield start
        for channel in opened:
            await channel.close()


@pytest.fixture
def blue() -> tuple[tuple[str, str], ...]:
    """Call metadata of the namespace `blue`."""
    return (("containerd-namespace", "blue"),)
