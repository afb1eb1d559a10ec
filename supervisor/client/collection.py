"""Garbage collection as a service of ours: why things stay, what would go, making it go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from supervisor.api.services.supervisor import gc_pb2 as pb
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.model.instant import Nanoseconds

_SERVICE = "supervisor.services.gc.v1.Collector"


@dataclass(frozen=True, slots=True)
class Hop:
    """One object on the path from a root: the first stays for itself, the others for the one before."""

    type: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Planned:
    """An object that would go, and the bytes that this gives back."""

    namespace: str
    type: str
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would remove; `size` in all. It can be run until it expires."""

    id: str
    objects: Sequence[Planned]
    size: int
    expires_at: Nanoseconds | None


@dataclass(frozen=True, slots=True)
class Collected:
    """What a run removed by type, the bytes of it, and the seconds of its phases."""

    removed: Mapping[str, int]
    size: int
    mark_seconds: float
    sweep_seconds: float
    write_seconds: float


class Collection:
    """The daemon's garbage collector."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def explain(self, type_: str, key: str) -> list[Hop]:
        """The path from a root that keeps an object; empty when the next run removes it. Raises NotFound.

        `type_` is content, image, container, lease, ingest, sandbox, mount, or snapshot/SNAPSHOTTER.
        """
        request = pb.ExplainRequest(type=type_, key=key)
        answer = await self._channel.call(f"{_SERVICE}/Explain", request, pb.ExplainResponse)
        return [Hop(hop.type, hop.key, hop.reason) for hop in answer.hops]

    async def plan(self) -> Plan:
        """Exactly what a run would remove now, in all namespaces."""
        parts = await self._channel.collect(f"{_SERVICE}/Plan", pb.PlanRequest(), pb.PlanResponse)
        objects = [Planned(o.namespace, o.type, o.key, o.size) for part in parts for o in part.objects]
        first = parts[0]
        return Plan(first.plan_id, objects, first.size, convert.instant(first.expires_at))

    async def run(self, plan_id: str = "") -> Collected:
        """Collect, and return when the last file is gone; with a plan, what it lists and nothing else."""
        answer = await self._channel.call(f"{_SERVICE}/Run", pb.RunRequest(plan_id=plan_id), pb.RunResponse)
        return Collected(
            dict(answer.removed),
            answer.size,
            answer.mark_seconds,
            answer.sweep_seconds,
            answer.write_seconds,
        )
