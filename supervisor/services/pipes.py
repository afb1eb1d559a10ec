"""Streams as work in threads uses them: bytes with a window, questions, progress.

(containerd: core/transfer/streaming.) The one that takes bytes says how many it has room for, in
WindowUpdate messages; the one that sends them waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any as Anything
from typing import TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage

from supervisor.api.types.transfer import progress_pb2, registry_pb2, streaming_pb2
from supervisor.errors import Cancelled, InvalidArgument
from supervisor.registry.credentials import Credential
from supervisor.services import convert
from supervisor.services.streams import Stream, is_a
from supervisor.transfer.progress import Progress

T = TypeVar("T")

WINDOW = 1 << 20
"""Bytes of room that are granted at a time."""

PIECE = 32 << 10
"""Bytes in one message at most; containerd's clients reserve no more."""


class Pipe:
    """A stream, used by one thread; closing it ends the client's call."""

    def __init__(self, stream: Stream) -> None:
        """Made on the event loop."""
        self._stream = stream
        self._loop = asyncio.get_running_loop()

    def run(self, work: Coroutine[Anything, Anything, T]) -> T:
        """Have the loop do something with the stream, and wait; raises Cancelled when the daemon stops."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except RuntimeError as error:
            work.close()
            raise Cancelled(f"the daemon stops: {error}") from error

    def close(self) -> None:
        """Say that nothing more comes."""
        self._loop.call_soon_threadsafe(self._stream.close)

    def receive(self) -> AnyMessage | None:
        """The client's next message, None at the end."""
        return self.run(self._stream.receive())


class Incoming(Pipe):
    """Bytes that the client sends, as a file to read."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._rest = b""
        self._room = 0
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, waiting for them; none at the end."""
        while not self._rest and not self._ended:
            if self._room < WINDOW // 2:
                self._room += WINDOW
                self.run(self._stream.send([streaming_pb2.WindowUpdate(update=WINDOW)]))
            message = self.receive()
            if message is None:
                self._ended = True
            elif is_a(message, streaming_pb2.Data):
                self._rest = streaming_pb2.Data.FromString(message.value).data
                self._room -= len(self._rest)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class Outgoing(Pipe):
    """Bytes for the client, as a file to write."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._room = 0

    def write(self, data: bytes, /) -> int:
        """Send bytes, as the client has room for them; raises Cancelled when it is gone."""
        left = memoryview(data)
        while left:
            while self._room <= 0:
                self._wait_for_room()
            fitting, left = left[: self._room], left[self._room :]
            self._room -= len(fitting)
            pieces = (fitting[start : start + PIECE] for start in range(0, len(fitting), PIECE))
            self.run(self._stream.send(streaming_pb2.Data(data=bytes(piece)) for piece in pieces))
        return len(data)

    def _wait_for_room(self) -> None:
        message = self.receive()
        if message is None:
            raise Cancelled("the client has closed its stream before it had all")
        if is_a(message, streaming_pb2.WindowUpdate):
            self._room += streaming_pb2.WindowUpdate.FromString(message.value).update


class Telling(Pipe):
    """Progress for the client."""

    def report(self, progress: Progress) -> None:
        """Tell, without waiting; what a client is too slow for is left out."""
        message = progress_pb2.Progress(
            event=progress.event,
            name=progress.name,
            parents=progress.parents,
            progress=progress.progress,
            total=progress.total,
        )
        if progress.descriptor is not None:
            message.desc.CopyFrom(convert.from_descriptor(progress.descriptor))
        self._loop.call_soon_threadsafe(self._stream.offer, message)

    async def told(self) -> None:
        """Wait until the client has all that was reported, if it listens."""
        await self._stream.told()


class Asking(Pipe):
    """Credentials that the client is asked for, one question at a time."""

    def __init__(self, stream: Stream, reference: str) -> None:
        super().__init__(stream)
        self._reference = reference

    def for_host(self, host: str) -> Credential | None:
        """What the client answers; raises InvalidArgument when it is not understood."""
        self.run(self._stream.send([registry_pb2.AuthRequest(host=host, reference=self._reference)]))
        message = self.receive()
        if message is None:
            return None
        if not is_a(message, registry_pb2.AuthResponse):
            raise InvalidArgument(f"credentials for {host}: the client answered with {message.type_url!r}")
        return _credential(registry_pb2.AuthResponse.FromString(message.value))


def _credential(answer: registry_pb2.AuthResponse) -> Credential | None:
    match answer.authType:
        case registry_pb2.CREDENTIALS:
            return Credential(username=answer.username, secret=answer.secret)
        case registry_pb2.REFRESH:
            return Credential(identity_token=answer.secret)
        case registry_pb2.HEADER:
            return Credential(header=answer.secret)
    return None
