"""containerd.services.events.ttrpc.v1.Events: where shims tell what happened (contract tasks 2.8)."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.ttrpc.events.v1.events_pb2 import ForwardRequest
from supervisor.errors import InvalidArgument
from supervisor.metadata import tasks
from supervisor.metadata.store import Store
from supervisor.model.event import Envelope
from supervisor.model.identifiers import check_topic, namespace
from supervisor.services.convert import to_envelope
from supervisor.ttrpc.calls import Call, Method, Services

SERVICE = "containerd.services.events.ttrpc.v1.Events"


def services(store: Store) -> Services:
    """The services of the daemon's ttrpc socket."""

    async def forward(request: ForwardRequest, call: Call) -> Empty:
        """Store an event and what follows from it. The answer is the shim's leave to forget it."""
        await store.write(tasks.take_event, _checked(to_envelope(request.envelope)))
        return Empty()

    return {SERVICE: {"Forward": Method(ForwardRequest, forward)}}


def _checked(envelope: Envelope) -> Envelope:
    namespace(envelope.namespace)
    check_topic(envelope.topic)
    if not envelope.timestamp:
        raise InvalidArgument("an event needs a timestamp")
    return envelope
