"""What the restart monitor knows of containers (containerd's tells nobody)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.api.services.supervisor import restarts_pb2 as pb
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.errors import FailedPrecondition
from supervisor.model.instant import Nanoseconds

_SERVICE = "supervisor.services.restarts.v1.Restarts"


@dataclass(frozen=True, slots=True)
class Restart:
    """One container that is to be kept running, or stopped; `why` says what keeps it from running."""

    container_id: str
    wanted: str
    policy: str
    restarts: int
    attempts_in_a_row: int
    last_attempt_at: Nanoseconds | None
    running: bool
    why: str
    next_attempt_at: Nanoseconds | None


class Restarts:
    """The restart monitor's view of a namespace."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def list(self) -> Sequence[Restart]:
        """Every container whose labels concern the monitor; raises FailedPrecondition when it is off."""
        answer = await self._channel.call(
            f"{_SERVICE}/List", pb.ListRestartsRequest(), pb.ListRestartsResponse
        )
        if not answer.enabled:
            raise FailedPrecondition(
                "the daemon restarts nothing: enabled is false in [restart] of its configuration"
            )
        return [_restart(message) for message in answer.restarts]


def _restart(message: pb.Restart) -> Restart:
    return Restart(
        container_id=message.container_id,
        wanted=message.wanted,
        policy=message.policy,
        restarts=message.restarts,
        attempts_in_a_row=message.attempts_in_a_row,
        last_attempt_at=convert.instant(message.last_attempt_at),
        running=message.running,
        why=message.why,
        next_attempt_at=convert.instant(message.next_attempt_at),
    )
