"""Both ends of a test's connection: a service of every arity, and a client that says frames itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import hpack
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.wrappers_pb2 import BytesValue

from supervisor.errors import NotFound
from supervisor.http2 import frames
from supervisor.http2.calls import Call
from supervisor.http2.frames import Flag, Frame, Type

_FILE = descriptor_pb2.FileDescriptorProto(
    name="tests/http2.proto",
    package="tests.http2",
    syntax="proto3",
    dependency=["google/protobuf/wrappers.proto"],
    service=[
        descriptor_pb2.ServiceDescriptorProto(
            name="Echo",
            method=[
                descriptor_pb2.MethodDescriptorProto(
                    name=name,
                    input_type=".google.protobuf.BytesValue",
                    output_type=".google.protobuf.BytesValue",
                    client_streaming=many_in,
                    server_streaming=many_out,
                )
                for name, many_in, many_out in (
                    ("One", False, False),
                    ("Sum", True, False),
                    ("Repeat", False, True),
                    ("Each", True, True),
                    ("Missing", False, False),
                )
            ],
        )
    ],
)
SERVICE = descriptor_pool.Default().AddSerializedFile(_FILE.SerializeToString()).services_by_name["Echo"]


@dataclass
class Echo:
    """Says what it is told; `calls` are those that began, and `ended` is set when one's `finally` ran."""

    SERVICE = SERVICE
    calls: list[Call] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def One(self, request: BytesValue, call: Call) -> BytesValue:
        """Back at once; never for `wait`; an error for others of these words."""
        self.calls.append(call)
        self.begun.set()
        try:
            if request.value == b"wait":
                await asyncio.Event().wait()
            if request.value == b"missing":
                raise NotFound("söme 100% thing\n")
            if request.value == b"bug":
                raise ZeroDivisionError("of the test")
            return request
        finally:
            self.ended.set()

    async def Sum(self, requests: AsyncIterator[BytesValue], call: Call) -> BytesValue:
        """All of it, joined."""
        return BytesValue(value=b"".join([request.value async for request in requests]))

    async def Repeat(self, request: BytesValue, call: Call) -> AsyncIterator[BytesValue]:
        """Ten times; for `wait` once, and then never again; `missing` fails behind the first."""
        self.calls.append(call)
        self.begun.set()
        try:
            for _ in range(10):
                yield request
                if request.value == b"wait":
                    await asyncio.Event().wait()
                if request.value == b"missing":
                    raise NotFound("the rest")
        finally:
            self.ended.set()

    async def Each(self, requests: AsyncIterator[BytesValue], call: Call) -> AsyncIterator[BytesValue]:
        """One by one; ends behind `enough`, whatever the client has yet to say."""
        async for request in requests:
            yield request
            if request.value == b"enough":
                return


class Speaker:
    """A client that says and hears frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()

    @classmethod
    async def connect(cls, path: Path, *settings: bytes) -> Speaker:
        """Connected, with the client's preface said."""
        speaker = cls(*await asyncio.open_unix_connection(path))
        speaker.say(frames.PREFACE, *(settings or (frames.settings({}),)))
        return speaker

    def say(self, *pieces: bytes) -> None:
        """Send bytes."""
        self.writer.write(b"".join(pieces))

    def block(self, path: str, *more: tuple[str, str], method: str = "POST") -> bytes:
        """The headers of a call."""
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        return self._encoder.encode(
            [*fields, ("content-type", "application/grpc"), ("te", "trailers"), *more]
        )

    def call(self, stream: int, method: str, message: bytes = b"", *more: tuple[str, str]) -> None:
        """Begin a call of Echo and end the request."""
        block = self.block(f"/tests.http2.Echo/{method}", *more)
        self.say(frames.frame(Type.HEADERS, Flag.END_HEADERS, stream, block))
        self.say(frames.frame(Type.DATA, Flag.END_STREAM, stream, message))

    async def hear(self, *kinds: int) -> Frame:
        """The next frame of these types; raises EOFError when there is none any more."""
        async with asyncio.timeout(10):
            while True:
                try:
                    head = await self._reader.readexactly(frames.HEAD_BYTES)
                except asyncio.IncompleteReadError as error:
                    raise EOFError from error
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] in kinds:
                    return head[3], head[4], int.from_bytes(head[5:], "big"), payload

    def fields(self, frame: Frame) -> dict[str, str]:
        """The headers in a HEADERS frame."""
        return dict(self._decoder.decode(frame[3]))

    async def status(self) -> str:
        """The status in the next trailers."""
        while True:
            heard = await self.hear(Type.HEADERS)
            fields = self.fields(heard)
            if heard[1] & Flag.END_STREAM:
                return fields.get("grpc-status", fields.get(":status", "none"))

    async def close(self) -> None:
        """End the connection."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
