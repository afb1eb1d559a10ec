"""An event as it is stored and told (containerd: core/events)."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.model.any import Any
from supervisor.model.instant import Nanoseconds


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event; `sequence` is its place in the journal, 0 while it has none."""

    timestamp: Nanoseconds
    namespace: str
    topic: str
    event: Any | None
    sequence: int = 0
