"""The client: one connection, and everything a daemon offers on it (containerd: client/client.go)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self

from supervisor.client.channel import Channel
from supervisor.client.collection import Collection
from supervisor.client.containers import Containers
from supervisor.client.content import Content
from supervisor.client.diffs import Diffs
from supervisor.client.events import Events
from supervisor.client.exits import Exits
from supervisor.client.images import Images
from supervisor.client.introspection import Introspection
from supervisor.client.leases import DEFAULT_LIFETIME, Leases
from supervisor.client.namespaces import Namespaces
from supervisor.client.restarts import Restarts
from supervisor.client.snapshots import DEFAULT_SNAPSHOTTER, Snapshots
from supervisor.client.tasks import Tasks
from supervisor.client.transfers import Transfers
from supervisor.errors import SupervisorError

DEFAULT_ADDRESS = "/run/container-supervisor/supervisor.sock"
DEFAULT_NAMESPACE = "default"


class Client:
    """A daemon, seen from one namespace; made inside a running event loop.

        async with Client(address, namespace="jobs") as client:
            print(await client.images.list())

    Every call raises errors of `supervisor.errors`, Unavailable when the daemon is not there; a later
    call connects again by itself.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        namespace: str = DEFAULT_NAMESPACE,
        *,
        channel: Channel | None = None,
    ) -> None:
        self._channel = channel or Channel(address, namespace)
        self.address = self._channel.address
        self.namespace = self._channel.namespace
        self.namespaces = Namespaces(self._channel)
        self.containers = Containers(self._channel)
        self.images = Images(self._channel)
        self.content = Content(self._channel)
        self.leases = Leases(self._channel)
        self.diffs = Diffs(self._channel)
        self.events = Events(self._channel)
        self.tasks = Tasks(self._channel)
        self.exits = Exits(self._channel)
        self.restarts = Restarts(self._channel)
        self.introspection = Introspection(self._channel)
        self.collection = Collection(self._channel)
        self.transfers = Transfers(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, also for the clients derived from this one."""
        await self._channel.close()

    def snapshots(self, snapshotter: str = DEFAULT_SNAPSHOTTER) -> Snapshots:
        """The snapshots of one snapshotter."""
        return Snapshots(self._channel, snapshotter)

    def in_namespace(self, namespace: str) -> Client:
        """The same daemon, seen from another namespace."""
        return Client(channel=self._channel.derive(namespace=namespace))

    def under_lease(self, lease_id: str) -> Client:
        """The same daemon; what is made through this client is kept by the lease."""
        return Client(channel=self._channel.derive(lease=lease_id))

    @asynccontextmanager
    async def leased(
        self, *, lifetime: float | None = DEFAULT_LIFETIME, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[Client]:
        """A client under a lease that ends with the block; one that is under a lease already keeps it."""
        if self._channel.lease is not None:
            yield self
            return
        lease = await self.leases.create(lifetime=lifetime, labels=labels)
        try:
            yield self.under_lease(lease.id)
        except BaseException:
            with suppress(SupervisorError):  # the daemon is gone, maybe; the lease expires by itself
                await self.leases.delete(lease.id)
            raise
        await self.leases.delete(lease.id)
