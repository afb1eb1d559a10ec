"""A connection to a shim's Task service, of either version (containerd: core/runtime/v2/shim.go)."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from google.protobuf.message import Message

from supervisor.errors import NotFound, SupervisorError, Unavailable, Unimplemented
from supervisor.model.identifiers import Namespace
from supervisor.shimv2.bootstrap import ShimAddress
from supervisor.ttrpc.aio import Client
from supervisor.ttrpc.calls import NAMESPACE_KEY

M = TypeVar("M", bound=Message)

DIAL_TIMEOUT = 10.0  # seconds; the shim listens already when its `start` has answered


class ShimClient:
    """Calls Task methods. Messages of both versions are the same but for their package, so v3's serve."""

    def __init__(self, connection: Client, address: ShimAddress, namespace: Namespace) -> None:
        self._connection = connection
        self._version = address.version
        self._metadata = ((NAMESPACE_KEY, namespace),)

    @classmethod
    async def connect(cls, address: ShimAddress, namespace: Namespace) -> ShimClient:
        """Connect; raises NotFound when nobody listens there, Unavailable when it takes too long."""
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                connection = await Client.connect(address.address)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotFound(f"no shim listens on {address.address}") from None
        except TimeoutError:
            raise Unavailable(f"the shim on {address.address} accepts no connection") from None
        except OSError as error:
            raise SupervisorError(f"connect to the shim on {address.address}: {error}") from error
        return cls(connection, address, namespace)

    @property
    def closed(self) -> asyncio.Future[None]:
        """Done once the connection has ended, whoever ended it."""
        return self._connection.closed

    def close(self) -> None:
        """End the connection; the shim is not affected."""
        self._connection.close()

    async def call(self, method: str, request: Message, reply: type[M], timeout: float | None = None) -> M:
        """Call a method; raises what the shim answered, DeadlineExceeded, or ConnectionClosed."""
        try:
            return await self._call(method, request, reply, timeout)
        except Unimplemented as error:
            # A shim may claim version 3 and serve version 2 only.
            if self._version == 2 or not str(error).startswith("service "):
                raise
            self._version = 2
            return await self._call(method, request, reply, timeout)

    async def _call(self, method: str, request: Message, reply: type[M], timeout: float | None) -> M:
        service = f"containerd.task.v{self._version}.Task"
        return await self._connection.call(
            service, method, request, reply, timeout=timeout, metadata=self._metadata
        )
