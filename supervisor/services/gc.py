"""supervisor.services.gc.v1.Collector: collection explained, planned and run; a service of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator

from supervisor.api.services.supervisor import gc_pb2 as pb
from supervisor.blocking import in_thread
from supervisor.gc.collector import Statistics
from supervisor.gc.plans import Item
from supervisor.services import convert
from supervisor.services.context import Context, namespace_of
from supervisor.services.scheduler import Scheduler

PLAN_CHUNK = 5000
"""Objects in one message: below a megabyte, as far as names are of usual length."""


class Collector:
    """Serves the collector of a scheduler."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Collector"]

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """The path from a root to an object."""
        explain = self._scheduler.collector.explain
        hops = await in_thread(explain, namespace_of(context), request.type, request.key)
        told = [pb.Hop(type=hop.node.type, key=hop.node.key, reason=hop.reason) for hop in hops]
        return pb.ExplainResponse(reachable=bool(told), hops=told)

    async def Plan(self, request: pb.PlanRequest, context: Context) -> AsyncIterator[pb.PlanResponse]:
        """What a run would remove now; one message at least."""
        plan = await in_thread(self._scheduler.collector.plan)
        for start in range(0, max(1, len(plan.items)), PLAN_CHUNK):
            yield pb.PlanResponse(
                plan_id=plan.id,
                expires_at=convert.from_instant(plan.expires_at),
                count=len(plan.items),
                size=plan.size,
                objects=map(_planned, plan.items[start : start + PLAN_CHUNK]),
            )

    async def Run(self, request: pb.RunRequest, context: Context) -> pb.RunResponse:
        """Collect, all or a plan."""
        if request.plan_id:
            return _done(await self._scheduler.run_plan(request.plan_id))
        return _done(await self._scheduler.collect())


def _planned(item: Item) -> pb.PlannedObject:
    node = item.candidate.node
    return pb.PlannedObject(namespace=node.namespace, type=node.type, key=node.key, size=item.size)


def _done(statistics: Statistics) -> pb.RunResponse:
    return pb.RunResponse(
        removed={kind.value: count for kind, count in statistics.removed.items() if count},
        size=statistics.size,
        mark_seconds=statistics.marking,
        sweep_seconds=statistics.sweeping,
        write_seconds=statistics.writing,
    )
