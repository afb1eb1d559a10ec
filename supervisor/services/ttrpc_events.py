"""containerd.services.events.ttrpc.v1.Events: where shims tell what happened (contract tasks 2.8)."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.ttrpc.events.v1.events_pb2 import ForwardRequest
from supervisor.metadata import tasks
from supervisor.metadata.store import Store
from supervisor.model.event import Envelope
from supervisor.model.identifiers import check_topic, namespace
from supervisor.services.convert import to_envelope
from supervisor.ttrpc.calls import Call, Method, Services

SERVICE = "containerd.services.events.ttrpc.v1.Events"
SIGNAL_KEY = "supervisor-exit-signal"
MAX_SIGNAL = 64


def services(store: Store) -> Services:
    """The services of the daemon's ttrpc socket."""

    async def forward(request: ForwardRequest, call: Call) -> Empty:
        """Store an event and what follows from it. The answer is the shim's leave to forget it."""
        await store.write(tasks.take_event, _checked(to_envelope(request.envelope)), _signal(call))
        return Empty()

    return {SERVICE: {"Forward": Method(ForwardRequest, forward)}}


def _signal(call: Call) -> int | None:
    """What ended the process of an exit event, 0 for no signal; None when the shim does not say.

    A status alone cannot tell "exit 137" from SIGKILL.
    """
    for told in call.metadata.get(SIGNAL_KEY, ()):
        if told.isascii() and told.isdigit():
            return min(int(told[:3]), MAX_SIGNAL)
    return None


def _checked(envelope: Envelope) -> Envelope:
    namespace(envelope.namespace)
    check_topic(envelope.topic)
    return envelope
