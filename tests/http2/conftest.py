"""A server of every arity on a socket in a temporary folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from supervisor.http2.server import Server
from tests.http2.speaker import Echo


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest_asyncio.fixture
async def server(path: Path, echo: Echo) -> AsyncIterator[Server]:
    async with Server(max_message_bytes=8 << 20, absent={"tests.http2.Later": "what comes later"}) as server:
        server.add(echo)
        await server.listen(path)
        yield server
