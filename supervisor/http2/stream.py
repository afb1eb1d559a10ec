"""A stream: one call from its headers to its trailers, and the bytes that may travel meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING
from typing import Any as Anything

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from supervisor.errors import DeadlineExceeded, Internal, InvalidArgument, SupervisorError
from supervisor.http2 import calls, messages
from supervisor.http2.calls import Call, Head
from supervisor.http2.frames import Code
from supervisor.http2.messages import Assembler
from supervisor.http2.methods import Method

if TYPE_CHECKING:
    from supervisor.http2.connection import Connection

log = logging.getLogger(__name__)

WINDOW = 1 << 20
"""Bytes that a client may send on a stream before we have taken any; for SETTINGS_INITIAL_WINDOW_SIZE."""


SILENCE_SECONDS = 1.0
"""How long a call that is refused may say nothing before it hears so."""


async def _never(request: Message, call: Call) -> Message:
    raise AssertionError("a refused call has no method")


REFUSED = Method("a refused method", _never, Empty.FromString, streams_in=False, streams_out=False)
"""Stands for the method of a call that is refused."""


class Stream:
    """One call. Its task is the server's; the connection hands it what arrives."""

    def __init__(
        self, connection: Connection, number: int, head: Head, method: Method, window: int, limit: int
    ) -> None:
        self.number = number
        self.window = window  # bytes that the client takes now
        self.ended = False  # the client has said all
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._head = head
        self._method = method
        self._assembler = Assembler(limit, gzipped=head.gzipped)
        self._requests: deque[bytes] = deque()
        self._broken: SupervisorError | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._credit = WINDOW  # bytes that the client may still send
        self._owed = 0  # bytes that it may send again once they are taken
        self._opened = False  # our headers are sent
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

    def start(self) -> None:
        """Begin: the method itself when it takes a stream, else with the request."""
        if self._head.timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(self._head.timeout, self._expire)
        if self._method.streams_in:
            self._begin()

    def refuse(self, error: SupervisorError) -> None:
        """Answer with an error once the client has begun to speak, or is silent for a while.

        grpcio's client loses the status of a stream that is refused while it sends its first message.
        """
        self._broken = error
        self._timer = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._begin)

    def receive(self, data: bytes, flow: int, *, end: bool) -> None:
        """Take the data of a frame that counted for `flow` bytes."""
        self._credit -= flow
        self._owed += flow
        if self._credit < 0:
            self._connection.reset(self, Code.FLOW_CONTROL_ERROR)
            return
        try:
            self._requests.extend(self._assembler.feed(data))
            if end and self._assembler.incomplete:
                raise Internal(f"{self._method.name}: the stream ends within a message")
        except SupervisorError as error:
            self._broken = self._broken or error
        self.ended = end
        self._pay()
        if self._method.streams_in:
            self._wake()
        elif end or self._broken:
            self._begin()

    def cancel(self) -> None:
        """Stop: nobody waits for the answer any more."""
        self._disarm()
        if self.task is not None:
            self.task.cancel()

    async def _work(self) -> None:
        """Run the method, and tell how it ended: what the task of the stream does."""
        try:
            if self._method.streams_out:
                await self._answer_many()
            else:
                answer: Message = await self._method.handler(self._argument(), self._head.call)
                await self._finish(messages.framed(answer.SerializeToString()), calls.SUCCESS)
        except asyncio.CancelledError:
            if not self._expired:
                raise
            await self._fail(DeadlineExceeded(f"{self._method.name} took too long"))
        except Exception as error:  # the border to every method there is
            await self._fail(error)
        finally:
            self._disarm()
            self._connection.forget(self)

    async def _answer_many(self) -> None:
        async with aclosing(self._method.handler(self._argument(), self._head.call)) as answers:
            async for answer in answers:
                opening = b"" if self._opened else calls.OPENING
                self._opened = True
                await self._connection.send(self, opening, messages.framed(answer.SerializeToString()))
        await self._finish(b"", calls.SUCCESS)

    async def _finish(self, data: bytes, trailers: bytes) -> None:
        opening = b"" if self._opened else calls.OPENING
        self._opened = True
        await self._connection.send(self, opening, data, trailers)

    async def _fail(self, error: Exception) -> None:
        """End the call with an error; one that nobody raised on purpose is logged with its origin."""
        if not isinstance(error, SupervisorError):
            log.error("%s failed unexpectedly", self._method.name, exc_info=error)
        trailers = calls.trailers(error)
        if self._opened:
            await self._connection.send(self, b"", b"", trailers)
        else:
            await self._connection.send(self, b"", b"", calls.OPENING + trailers)

    def _expire(self) -> None:
        self._expired = True
        if self.task is not None:
            self.task.cancel()
        else:
            self._broken = DeadlineExceeded(f"{self._method.name}: no request came in time")
            self._begin()

    def _begin(self) -> None:
        if self.task is None:
            self._connection.work(self, self._work())

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _argument(self) -> Anything:
        """What the method is called with: the request, or all of them as they come."""
        if self._method.streams_in:
            return self._each()
        if self._broken is not None:
            raise self._broken
        if len(self._requests) != 1:
            raise InvalidArgument(f"{self._method.name} takes one request, not {len(self._requests)}")
        return self._parsed(self._requests.popleft())

    async def _each(self) -> AsyncIterator[Message]:
        while True:
            while self._requests:
                message = self._parsed(self._requests.popleft())
                self._pay()
                yield message
            if self._broken is not None:
                raise self._broken
            if self.ended:
                return
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival

    def _parsed(self, payload: bytes) -> Message:
        try:
            return self._method.parse(payload)
        except DecodeError as error:
            raise Internal(f"{self._method.name}: the request cannot be decoded: {error}") from error

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _pay(self) -> None:
        """Let the client send on, unless whole messages wait: then it is ahead of the method."""
        if not self._requests and not self.ended and self._owed >= WINDOW // 2:
            self._connection.credit(self.number, self._owed)
            self._credit += self._owed
            self._owed = 0
