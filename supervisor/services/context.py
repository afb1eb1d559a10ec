"""What a call says beside its request: the namespace and the lease (contract 1.2, 1.3)."""

from __future__ import annotations

from typing import Any as Anything

import grpc.aio

from supervisor.errors import FailedPrecondition
from supervisor.model.identifiers import Namespace, namespace

NAMESPACE_KEY = "containerd-namespace"
LEASE_KEY = "containerd-lease"

Context = grpc.aio.ServicerContext[Anything, Anything]


def _first(context: Context, key: str) -> str | None:
    """The first value of a metadata key: clients put the newest first."""
    for name, value in context.invocation_metadata() or ():
        if name == key:
            return value if isinstance(value, str) else value.decode()
    return None


def namespace_of(context: Context) -> Namespace:
    """The caller's namespace; raises FailedPrecondition when absent, InvalidArgument when malformed."""
    text = _first(context, NAMESPACE_KEY)
    if not text:
        raise FailedPrecondition("namespace is required")
    return namespace(text)


def lease_of(context: Context) -> str | None:
    """The caller's lease id, None without the header. An empty value is an id that no lease has."""
    return _first(context, LEASE_KEY)
