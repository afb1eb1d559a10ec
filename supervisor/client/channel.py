"""One connection to a daemon: calls, their headers, reconnection (containerd: client/client.go)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar, cast

import grpc.aio
from google.protobuf.message import Message

from supervisor.client.failures import translating

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)

# What containerd's own clients and servers use.
MAX_MESSAGE_BYTES = 16 << 20
# gRPC's own back-off grows to two minutes; a daemon on the same machine is back in a second.
_RECONNECT_MS = (50, 1000)

_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS[0]),
    # Not a pause, whatever its name: how long one attempt may take, also on a machine that is busy.
    ("grpc.min_reconnect_backoff_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS[1]),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    # A path as authority is refused by Go's HTTP/2 server.
    ("grpc.default_authority", "localhost"),
)


class Duplex(Generic[Request, Answer]):
    """A call on which both sides send; used for writing content, and for transfers."""

    def __init__(self, call: grpc.aio.StreamStreamCall[Request, Answer], address: str) -> None:
        self._call = call
        self._address = address

    async def exchange(self, request: Request) -> Answer | None:
        """Send `request` and wait for one answer; None when the other side has ended."""
        with translating(self._address):
            # After the end a write would only say that it is too late; a read says why.
            if not self._call.done():
                await self._call.write(request)
            answer = await self._call.read()
        return None if answer is grpc.aio.EOF else cast(Answer, answer)  # type: ignore[attr-defined]

    async def send(self, request: Request) -> None:
        """Send a request, without waiting for an answer to it."""
        with translating(self._address):
            await self._call.write(request)

    async def receive(self) -> Answer | None:
        """The next answer; None when the other side has ended."""
        with translating(self._address):
            answer = await self._call.read()
        return None if answer is grpc.aio.EOF else cast(Answer, answer)  # type: ignore[attr-defined]

    async def finish(self) -> None:
        """Say that nothing more is sent."""
        with translating(self._address):
            await self._call.done_writing()

    def cancel(self) -> None:
        """End the call; what was answered so far holds."""
        self._call.cancel()


class Channel:
    """Calls in one namespace, and under one lease if there is one."""

    def __init__(
        self,
        address: str,
        namespace: str,
        lease: str | None = None,
        transport: grpc.aio.Channel | None = None,
    ) -> None:
        self.address = address
        self.namespace = namespace
        self.lease = lease
        self._transport = transport or grpc.aio.insecure_channel(f"unix://{address}", options=_OPTIONS)

    def derive(self, *, namespace: str | None = None, lease: str | None = None) -> Channel:
        """A channel on the same connection with another namespace or lease."""
        return Channel(self.address, namespace or self.namespace, lease or self.lease, self._transport)

    async def close(self) -> None:
        """Close the connection, also for those derived from it."""
        await self._transport.close(None)

    async def call(
        self, method: str, request: Message, answer: type[Answer], *, timeout: float | None = None
    ) -> Answer:
        """Call a method that answers once; `method` is `package.Service/Method`."""
        multi = self._transport.unary_unary(f"/{method}", type(request).SerializeToString, answer.FromString)
        with translating(self.address):
            return cast(Answer, await multi(request, timeout=timeout, metadata=self._headers()))

    async def stream(
        self, method: str, request: Message, answer: type[Answer]
    ) -> AsyncGenerator[Answer, None]:
        """Call a method that answers many times; ending the iteration cancels the call."""
        multi = self._transport.unary_stream(f"/{method}", type(request).SerializeToString, answer.FromString)
        call = multi(request, metadata=self._headers())
        try:
            with translating(self.address):
                async for message in call:
                    yield cast(Answer, message)
        finally:
            call.cancel()

    async def collect(self, method: str, request: Message, answer: type[Answer]) -> list[Answer]:
        """All answers of a method that answers many times."""
        async with aclosing(self.stream(method, request, answer)) as messages:
            return [message async for message in messages]

    def duplex(self, method: str, request: type[Request], answer: type[Answer]) -> Duplex[Request, Answer]:
        """Open a call on which both sides send."""
        multi = self._transport.stream_stream(f"/{method}", request.SerializeToString, answer.FromString)
        return Duplex(multi(None, metadata=self._headers()), self.address)

    def _headers(self) -> tuple[tuple[str, str], ...]:
        headers = (("containerd-namespace", self.namespace),)
        return (*headers, ("containerd-lease", self.lease)) if self.lease is not None else headers
