"""supervisor.services.exits.v1.Exits: how processes ended, also those of deleted tasks."""

from __future__ import annotations

from supervisor.api.services.supervisor import exits_pb2 as pb
from supervisor.errors import InvalidArgument
from supervisor.metadata import exits
from supervisor.metadata.store import Store
from supervisor.model.instant import Nanoseconds
from supervisor.model.task import ExitRecord
from supervisor.services.context import Context, namespace_of
from supervisor.services.convert import from_instant

MOST_LISTED = 1000


class Exits:
    """Reads the exit records of the store; they are written with the events that tell of the exits."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Exits"]

    def __init__(self, store: Store) -> None:
        self._store = store

    async def Get(self, request: pb.GetExitRequest, context: Context) -> pb.GetExitResponse:
        """The newest record of a process."""
        namespace = namespace_of(context)
        if not request.container_id:
            raise InvalidArgument("the exit of which container? container_id is empty")
        record = self._store.look_up(exits.get, namespace, request.container_id, request.exec_id)
        return pb.GetExitResponse(record=_message(record))

    async def List(self, request: pb.ListExitsRequest, context: Context) -> pb.ListExitsResponse:
        """The newest records of a container, or of the namespace."""
        namespace = namespace_of(context)
        most = min(request.limit or MOST_LISTED, MOST_LISTED)
        found = await self._store.read(
            exits.find, namespace, request.container_id, most, first_only=request.first_processes
        )
        return pb.ListExitsResponse(records=map(_message, found))


def _message(record: ExitRecord) -> pb.ExitRecord:
    started_at = record.started_at
    return pb.ExitRecord(
        sequence=record.sequence,
        container_id=record.container_id,
        exec_id=record.exec_id,
        pid=record.exit.pid,
        exit_status=record.exit.status,
        signal=record.signal,
        oom_killed=record.oom_killed,
        error=record.error,
        started_at=None if started_at is None else from_instant(Nanoseconds(started_at)),
        exited_at=from_instant(record.exit.exited_at),
        deleted=record.deleted,
    )
