"""Telling the daemon what happens, in order, even if it is away for a while (containerd: shim/publisher.go).

One queue, one thread. An event that could not be delivered is tried again until it is, before any
later one, so a daemon that was restarted hears of everything that it missed. The queue is bounded
by number: beyond that the oldest are dropped, and it is said. Nobody ever waits for delivery but
the shim's own end, and that for a bounded time.

Each call carries where it comes from and a number that rises by one: a delivery whose answer was
lost is repeated under the same number. With an exit goes the signal, which its event has no field for.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.ttrpc.events.v1 import events_pb2
from supervisor.api.types import event_pb2
from supervisor.errors import InvalidArgument, SupervisorError
from supervisor.model.instant import now
from supervisor.shimv2.runc.happenings import Exited, Happening
from supervisor.shimv2.runc.messages import pack, timestamp, topic_and_event
from supervisor.ttrpc.blocking import Client

SERVICE = "containerd.services.events.ttrpc.v1.Events"
METHOD = "Forward"
SOURCE_KEY = "supervisor-event-source"
SEQUENCE_KEY = "supervisor-event-sequence"
SIGNAL_KEY = "supervisor-exit-signal"

CALL_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds
MOST_QUEUED = 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Numbered:
    sequence: int
    envelope: event_pb2.Envelope
    extra: tuple[tuple[str, str], ...] = ()


class Publisher:
    """Forwards happenings to the daemon's ttrpc socket; without an address it drops them."""

    def __init__(self, address: str, namespace: str) -> None:
        self._address = address
        self._namespace = namespace
        self._source = f"{os.getpid()}-{now()}"
        self._queue: deque[_Numbered] = deque()
        self._changed = threading.Condition()
        self._sequence = 0
        self._in_delivery = False
        self._ending = False
        self._hurried = False
        self._client: Client | None = None
        if address:
            threading.Thread(target=self._run, name="events", daemon=True).start()

    def tell(self, happening: Happening) -> None:
        """Queue a happening; from any thread, without waiting."""
        topic, event = topic_and_event(happening)
        envelope = event_pb2.Envelope(
            timestamp=timestamp(now()), namespace=self._namespace, topic=topic, event=pack(event)
        )
        if not self._address:
            return
        with self._changed:
            self._sequence += 1
            self._queue.append(_Numbered(self._sequence, envelope, _extra(happening)))
            if len(self._queue) > MOST_QUEUED:
                log.error("the daemon is away for too long, an event was dropped: %s", self._queue.popleft())
            self._changed.notify_all()

    def hurry(self) -> None:
        """A daemon is there: try again what is queued without waiting longer."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until all that is queued has been delivered; False when the time ran out."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._queue, seconds)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._queue))
                first = self._queue[0]
            if self._deliver(first):
                pause = FIRST_PAUSE
                self._done_with(first)
            else:
                self._rest(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._hurried, seconds)
            self._hurried = False

    def _done_with(self, event: _Numbered) -> None:
        with self._changed:
            # It is gone already when too many came meanwhile.
            if self._queue and self._queue[0] is event:
                self._queue.popleft()
            self._changed.notify_all()

    def _deliver(self, event: _Numbered) -> bool:
        """Whether the daemon has taken the event, or refused it for good."""
        metadata = ((SOURCE_KEY, self._source), (SEQUENCE_KEY, str(event.sequence)), *event.extra)
        request = events_pb2.ForwardRequest(envelope=event.envelope)
        try:
            client = self._connected()
            client.call(SERVICE, METHOD, request, Empty, timeout=CALL_SECONDS, metadata=metadata)
        except InvalidArgument as error:
            log.error("the daemon refused the event %s: %s", event.envelope.topic, error)
        except (OSError, SupervisorError) as error:
            log.info("the event %s is kept, the daemon did not take it: %s", event.envelope.topic, error)
            self._disconnect()
            return False
        return True

    def _connected(self) -> Client:
        if self._client is None:
            self._client = Client(self._address, connect_timeout=CALL_SECONDS)
        return self._client

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _extra(happening: Happening) -> tuple[tuple[str, str], ...]:
    return ((SIGNAL_KEY, str(happening.exit.signal)),) if isinstance(happening, Exited) else ()
