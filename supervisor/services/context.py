"""What a call says beside its request: the namespace and the lease (contract 1.2, 1.3)."""

from __future__ import annotations

from supervisor.errors import FailedPrecondition
from supervisor.http2.calls import Call
from supervisor.model.identifiers import Namespace, namespace

NAMESPACE_KEY = "containerd-namespace"
LEASE_KEY = "containerd-lease"

Context = Call
"""What a method is given beside its request. Of several values of a key, the first: clients put the newest
first."""


def namespace_of(context: Context) -> Namespace:
    """The caller's namespace; raises FailedPrecondition when absent, InvalidArgument when malformed."""
    text = context.metadata.get(NAMESPACE_KEY)
    if not text:
        raise FailedPrecondition("namespace is required")
    return namespace(text)


def lease_of(context: Context) -> str | None:
    """The caller's lease id, None without the header. An empty value is an id that no lease has."""
    return context.metadata.get(LEASE_KEY)
