"""grpc.health.v1.Health (containerd: plugins/services/healthcheck); messages by gRPC's own package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from grpc_health.v1 import health_pb2 as pb

from supervisor.errors import NotFound
from supervisor.services.context import Context

_WHOLE_SERVER = ""


class Health:
    """Says whether the server as a whole serves; it knows no other name."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Health"]

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Say NOT_SERVING from now on, also to those who watch."""
        self._stopping.set()

    async def Check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:
        """The state now; raises NotFound for a name."""
        if request.service != _WHOLE_SERVER:
            raise NotFound("unknown service")
        return self._answer()

    async def List(self, request: pb.HealthListRequest, context: Context) -> pb.HealthListResponse:
        """The states of all names."""
        return pb.HealthListResponse(statuses={_WHOLE_SERVER: self._answer()})

    async def Watch(
        self, request: pb.HealthCheckRequest, context: Context
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """The state now and after each change; of an unknown name, that it is unknown, and no end."""
        if request.service != _WHOLE_SERVER:
            yield pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)
            await self._stopping.wait()
            return
        if not self._stopping.is_set():
            yield self._answer()
            await self._stopping.wait()
        yield self._answer()

    def _answer(self) -> pb.HealthCheckResponse:
        stopping = self._stopping.is_set()
        return pb.HealthCheckResponse(
            status=pb.HealthCheckResponse.NOT_SERVING if stopping else pb.HealthCheckResponse.SERVING
        )
