"""Telling the daemon what happens, in order, even if it is away for a while (containerd: shim/publisher.go).

One queue. An event that could not be delivered is tried again until it is, before any later one, so a
daemon that was restarted hears of everything that it missed. The queue is bounded by number: beyond
that the oldest are dropped, and it is said. Nobody ever waits for delivery but the shim's own end, and
that for a bounded time.

Each call carries where it comes from and a number that rises by one: a delivery whose answer was
lost is repeated under the same number. With an exit goes the signal, which its event has no field for.
"""

from __future__ import annotations

import os
from collections import deque

from supervisor.errors import DeadlineExceeded, InvalidArgument, SupervisorError
from supervisor.model.instant import now
from supervisor.model.record import record
from supervisor.shimv2.runc import log
from supervisor.shimv2.runc.happenings import Exited, Happening
from supervisor.shimv2.runc.layouts import ENVELOPE, EVENTS, FORWARD_REQUEST, timestamp
from supervisor.shimv2.runc.loop import Loop, Timer
from supervisor.ttrpc.looped import Client
from supervisor.ttrpc.promise import Promise, begin
from supervisor.ttrpc.protobuf import any_of

METHOD = "Forward"
SOURCE_KEY = "supervisor-event-source"
SEQUENCE_KEY = "supervisor-event-sequence"
SIGNAL_KEY = "supervisor-exit-signal"

CALL_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds
MOST_QUEUED = 10_000


@record
class _Numbered:
    sequence: int
    request: bytes
    extra: tuple[tuple[str, str], ...] = ()


class Publisher:
    """Forwards happenings to the daemon's ttrpc socket; without an address it drops them."""

    def __init__(self, loop: Loop) -> None:
        self._address = ""
        self._namespace = ""
        self._loop = loop
        self._source = ""
        self._queue: deque[_Numbered] = deque()
        self._sequence = 0
        self._at_work = False
        self._client: Client | None = None
        self._rest: Promise[None] | None = None
        self._timer: Timer | None = None
        self._emptied: Promise[None] = Promise()

    def begin(self, address: str, namespace: str) -> None:
        """Tell the daemon at `address`, in the name of this process."""
        self._address, self._namespace = address, namespace
        self._source = f"{os.getpid()}-{now()}"

    def tell(self, happening: Happening) -> None:
        """Queue a happening."""
        if not self._address:
            return
        self._sequence += 1
        envelope = ENVELOPE.encode(
            timestamp=timestamp(now()),
            namespace=self._namespace,
            topic=happening.topic,
            event=any_of(happening.name, happening.event()),
        )
        request = FORWARD_REQUEST.encode(envelope=envelope)
        self._queue.append(_Numbered(self._sequence, request, _extra(happening)))
        if len(self._queue) > MOST_QUEUED:
            log.error("the daemon is away for too long, event %d was dropped", self._queue.popleft().sequence)
        if not self._at_work:
            self._at_work = True
            # The answer to the call in which it happened goes first: the daemon keeps nobody waiting for it.
            self._loop.call(self._set_out)

    def hurry(self) -> None:
        """A daemon is there: try again what is queued without waiting longer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._rest is not None and not self._rest.done():
            self._rest.settle(None)

    async def flush(self, seconds: float) -> bool:
        """Wait until all that is queued has been delivered; False when the time ran out."""
        if not self._queue:
            return True
        return await self._loop.settled(self._emptied, seconds)

    def _set_out(self) -> None:
        begin(self._deliver_all())

    async def _deliver_all(self) -> None:
        pause = FIRST_PAUSE
        while self._queue:
            first = self._queue[0]
            if await self._deliver(first):
                pause = FIRST_PAUSE
                # It is gone already when too many came meanwhile.
                if self._queue and self._queue[0] is first:
                    self._queue.popleft()
            else:
                await self._pause(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        self._at_work = False
        emptied, self._emptied = self._emptied, Promise()
        emptied.settle(None)

    async def _pause(self, seconds: float) -> None:
        self._rest = Promise()
        self._timer = self._loop.after(seconds, self.hurry)
        await self._rest

    async def _deliver(self, event: _Numbered) -> bool:
        """Whether the daemon has taken the event, or refused it for good."""
        metadata = ((SOURCE_KEY, self._source), (SEQUENCE_KEY, str(event.sequence)), *event.extra)
        try:
            answer = self._connected().call(EVENTS, METHOD, event.request, CALL_SECONDS, metadata)
            if not await self._loop.settled(answer, CALL_SECONDS):
                raise DeadlineExceeded(f"no answer within {CALL_SECONDS} s")
            if isinstance(refusal := answer.result().result, SupervisorError):
                raise refusal
        except InvalidArgument as error:
            log.error("the daemon refused event %d: %s", event.sequence, error)
        except (OSError, SupervisorError) as error:
            log.info("event %d is kept, the daemon did not take it: %s", event.sequence, error)
            self.disconnect()
            return False
        return True

    def _connected(self) -> Client:
        if self._client is None or self._client.ended:
            self._client = Client(self._loop, self._address)
        return self._client

    def disconnect(self) -> None:
        """End the connection to the daemon; the next event makes another."""
        if self._client is not None:
            self._client.end()
            self._client = None


def _extra(happening: Happening) -> tuple[tuple[str, str], ...]:
    return ((SIGNAL_KEY, str(happening.exit.signal)),) if isinstance(happening, Exited) else ()
