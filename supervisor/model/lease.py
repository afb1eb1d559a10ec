"""Leases: what keeps objects alive that nothing refers to yet (containerd: core/leases). Contract 8."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from supervisor.errors import InvalidArgument
from supervisor.model.instant import EPOCH, SECOND, Nanoseconds, parse_rfc3339
from supervisor.model.predicate import Path, entry, present

EXPIRE_LABEL = "containerd.io/gc.expire"
FLAT_LABEL = "containerd.io/gc.flat"

_LONG_AGO = Nanoseconds(-(1 << 63))
_FAR_AWAY = Nanoseconds((1 << 63) - 1)


@dataclass(frozen=True, slots=True)
class Lease:
    """A named holder of resources; its labels say until when (`gc.expire`) and how deep (`gc.flat`)."""

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: Nanoseconds = EPOCH

    def field(self, path: Path) -> str | None:
        """The field that a filter's path names."""
        match path:
            case ("id", *_):
                return present(self.id)
            case ("labels", *_):
                return entry(self.labels, path[1:])
        return None


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """What a lease holds; `type` is `content`, `images`, `ingests` or `snapshots/<snapshotter>`."""

    type: str
    id: str


def generated_id(now: Nanoseconds) -> str:
    """An id for a lease whose caller names none: nanoseconds of the second, four random characters."""
    return f"{now % SECOND}-{base64.urlsafe_b64encode(secrets.token_bytes(3)).decode()}"


def expiry(labels: Mapping[str, str]) -> Nanoseconds | None:
    """When its label `containerd.io/gc.expire` says that an object ends; never, if that is no time.

    Contract 11.1. A time that 64 bits of nanoseconds cannot hold is the nearest that they can.
    """
    try:
        instant = parse_rfc3339(labels.get(EXPIRE_LABEL, ""))
    except InvalidArgument:
        return None
    return max(_LONG_AGO, min(instant, _FAR_AWAY))
