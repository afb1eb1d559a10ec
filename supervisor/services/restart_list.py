"""supervisor.services.restarts.v1.Restarts: the containers that the restart monitor minds, and why."""

from __future__ import annotations

from supervisor.api.services.supervisor import restarts_pb2 as pb
from supervisor.metadata import restarts
from supervisor.metadata.store import Store
from supervisor.model.container import Container
from supervisor.model.instant import now
from supervisor.model.restart import (
    DEFAULT_POLICY,
    POLICY_LABEL,
    STATUS_LABEL,
    Attempts,
    Ended,
    RestartSettings,
    still_in_a_row,
)
from supervisor.model.restart import restarts as restarts_of
from supervisor.services.context import Context, namespace_of
from supervisor.services.convert import from_instant
from supervisor.services.restarts import Outlook, RestartMonitor


class Restarts:
    """Joins labels and rows of the store with what the monitor has seen."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Restarts"]

    def __init__(self, store: Store, monitor: RestartMonitor) -> None:
        self._store = store
        self._monitor = monitor

    async def List(self, request: pb.ListRestartsRequest, context: Context) -> pb.ListRestartsResponse:
        """Every container of the namespace that is to be kept running, or stopped."""
        namespace, settings = namespace_of(context), self._monitor.settings
        found = await self._store.read(restarts.known, namespace)
        messages = [
            _message(container, attempts, self._monitor.outlook(namespace, container.id), settings)
            for container, attempts in found
        ]
        return pb.ListRestartsResponse(enabled=settings.enabled, restarts=messages)


def _message(
    container: Container, attempts: Attempts, outlook: Outlook, settings: RestartSettings
) -> pb.Restart:
    if outlook.running:
        attempts = still_in_a_row(attempts, Ended(at=now()), settings)
    return pb.Restart(
        container_id=container.id,
        wanted=container.labels[STATUS_LABEL],
        policy=container.labels.get(POLICY_LABEL) or DEFAULT_POLICY,
        restarts=restarts_of(container.labels),
        attempts_in_a_row=attempts.count,
        last_attempt_at=None if attempts.last is None else from_instant(attempts.last),
        running=outlook.running,
        why=outlook.why,
        next_attempt_at=None if outlook.due is None else from_instant(outlook.due),
    )
