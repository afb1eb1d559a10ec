"""Plans: what a run would remove, remembered so that exactly that can be removed after a look at it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.errors import NotFound
from supervisor.gc.candidate import Candidate
from supervisor.model.instant import SECOND, Nanoseconds, now

LIFETIME = 3600 * SECOND
"""How long a plan can be run."""

MAX_PLANS = 8
"""Plans that are kept at once; the oldest makes room."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object of a plan, and the bytes that its end gives back.

    They are none for a blob that another namespace keeps, and counted once for one that several lose.
    """

    candidate: Candidate
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What would go, and until when this plan can be run; `size` is what it would give back."""

    id: str
    items: Sequence[Item]
    size: int
    expires_at: Nanoseconds


class Plans:
    """The plans of a daemon; they end with it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._plans: dict[str, Plan] = {}

    def keep(self, items: Sequence[Item]) -> Plan:
        """Make a plan of what was found."""
        size = sum(item.size for item in items)
        plan = Plan(secrets.token_hex(8), items, size, Nanoseconds(now() + LIFETIME))
        with self._guard:
            self._plans[plan.id] = plan
            while len(self._plans) > MAX_PLANS:
                del self._plans[next(iter(self._plans))]
        return plan

    def taken(self, plan_id: str) -> Plan:
        """A plan, which is gone then; raises NotFound."""
        with self._guard:
            plan = self._plans.pop(plan_id, None)
        if plan is None or plan.expires_at < now():
            raise NotFound(f"plan {plan_id}: it was run, or it is too old; make a new one")
        return plan
