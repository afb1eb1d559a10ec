"""Calls as gRPC's own client makes them."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.wrappers_pb2 import BytesValue

from supervisor.errors import PermissionDenied
from supervisor.http2.calls import Call
from supervisor.http2.server import Server
from tests.http2.speaker import Echo

Many = Iterable[bytes]


class Client:
    """Echo, called by grpc.aio; `options` are of its channel, the rest of each call."""

    def __init__(self, path: Path, *options: tuple[str, object]) -> None:
        self.channel = grpc.aio.insecure_channel(f"unix:{path}", options=options)

    def _of(self, kind: str, method: str) -> object:
        make = getattr(self.channel, kind)
        serialize, parse = BytesValue.SerializeToString, BytesValue.FromString
        return make(f"/tests.http2.Echo/{method}", serialize, parse)

    async def one(self, value: bytes, method: str = "One", **options: object) -> bytes:
        answer = await self._of("unary_unary", method)(BytesValue(value=value), **options)  # type: ignore[operator]
        return answer.value

    async def sum(self, values: Many, **options: object) -> bytes:
        call = self._of("stream_unary", "Sum")
        return (await call((BytesValue(value=v) for v in values), **options)).value  # type: ignore[operator]

    async def repeat(self, value: bytes, **options: object) -> list[bytes]:
        call = self._of("unary_stream", "Repeat")
        return [answer.value async for answer in call(BytesValue(value=value), **options)]  # type: ignore[operator]

    def each(self, values: Iterable[BytesValue] | AsyncIterator[BytesValue] | None = None) -> grpc.aio.Call:
        return self._of("stream_stream", "Each")(values)  # type: ignore[operator]


@pytest_asyncio.fixture
async def client(server: Server, path: Path) -> AsyncIterator[Client]:
    limits = (("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20))
    made = Client(path, *limits)
    yield made
    await made.channel.close()


async def refused(call: object) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code().name, caught.value.details() or ""


@pytest.mark.parametrize("size", [0, 1, 100, 16_384, 70_000, 5 << 20])
async def test_messages_of_any_size_go_both_ways(client: Client, size: int) -> None:
    value = os.urandom(size)
    assert await client.one(value) == value
    assert await client.repeat(value) == [value] * 10
    assert await client.sum([value, b"|", value]) == value + b"|" + value


async def test_a_stream_goes_on_in_both_directions(client: Client) -> None:
    call = client.each()
    for word in (b"a", b"b" * 100_000, b"c"):
        await call.write(BytesValue(value=word))  # type: ignore[attr-defined]
        assert (await call.read()).value == word  # type: ignore[attr-defined]
    await call.done_writing()  # type: ignore[attr-defined]
    assert await call.read() is grpc.aio.EOF  # type: ignore[attr-defined]
    assert await call.code() is grpc.StatusCode.OK


async def test_a_method_may_end_before_the_client_does(client: Client) -> None:
    call = client.each()
    await call.write(BytesValue(value=b"enough"))  # type: ignore[attr-defined]
    assert (await call.read()).value == b"enough"  # type: ignore[attr-defined]
    assert await call.code() is grpc.StatusCode.OK


async def test_more_than_any_window_waits_for_the_method(client: Client) -> None:
    """Forty megabytes, of which the method takes one message at a time."""
    piece = os.urandom(1 << 20)

    async def pieces() -> AsyncIterator[BytesValue]:
        for _ in range(40):
            yield BytesValue(value=piece)

    heard = [answer.value async for answer in client.each(pieces())]  # type: ignore[attr-defined]
    assert heard == [piece] * 40


async def test_many_calls_share_a_connection(client: Client) -> None:
    values = [str(number).encode() * 1000 for number in range(200)]
    assert await asyncio.gather(*map(client.one, values)) == values


async def test_errors_carry_their_code_and_text(client: Client) -> None:
    """Text that is no header as it is travels in escapes; what was sent before an error arrives."""
    assert await refused(client.one(b"missing")) == ("NOT_FOUND", "söme 100% thing\n: not found")
    call = client._of("unary_stream", "Repeat")(BytesValue(value=b"missing"))  # type: ignore[operator]
    assert (await call.read()).value == b"missing"
    assert await refused(call.read()) == ("NOT_FOUND", "the rest: not found")


async def test_a_bug_is_an_unknown_error_and_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    code, text = await refused(client.one(b"bug"))
    assert (code, text) == ("UNKNOWN", "ZeroDivisionError: of the test")
    assert "One failed unexpectedly" in caplog.text


async def test_what_is_not_offered(client: Client) -> None:
    code, text = await refused(client.one(b"", method="Missing"))
    assert code == "UNIMPLEMENTED"
    assert "unknown method Missing for service tests.http2.Echo" in text
    for service, words in (("Nobody", "unknown service tests.http2.Nobody"), ("Later", "what comes later")):
        call = client.channel.unary_unary(f"/tests.http2.{service}/One", bytes, bytes)
        code, text = await refused(call(b""))
        assert code == "UNIMPLEMENTED"
        assert words in text


async def test_metadata_and_the_peer(client: Client, echo: Echo) -> None:
    """Of a key's values the first; the peer as the kernel knows it."""
    metadata = (("containerd-namespace", "blue"), ("containerd-namespace", "red"), ("x-y", "z"))
    for _ in range(3):  # the same block of headers means the same each time
        await client.one(b"x", metadata=metadata)
        await client.one(b"x", metadata=(("containerd-namespace", "green"),))
    for blue, green in zip(echo.calls[::2], echo.calls[1::2]):
        assert (blue.metadata["containerd-namespace"], blue.metadata["x-y"]) == ("blue", "z")
        assert green.metadata["containerd-namespace"] == "green"
        assert "x-y" not in green.metadata
    peer = echo.calls[0].peer
    assert peer is not None
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())


@pytest.mark.parametrize("method", ["one", "repeat"])
async def test_a_deadline_ends_the_method(client: Client, echo: Echo, method: str) -> None:
    code, _ = await refused(getattr(client, method)(b"wait", timeout=0.2))
    assert code == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(echo.ended.wait(), 10)


@pytest.mark.parametrize(("kind", "method"), [("unary_unary", "One"), ("unary_stream", "Repeat")])
async def test_a_client_that_gives_up_ends_the_method(
    client: Client, echo: Echo, kind: str, method: str
) -> None:
    call = client._of(kind, method)(BytesValue(value=b"wait"))  # type: ignore[operator]
    await asyncio.wait_for(echo.begun.wait(), 10)
    if method == "Repeat":
        await call.read()  # grpcio loses a cancellation that meets an answer on its way
    call.cancel()
    await asyncio.wait_for(echo.ended.wait(), 10)


async def test_a_connection_that_breaks_ends_its_methods(server: Server, path: Path, echo: Echo) -> None:
    client = Client(path)
    waiting = asyncio.create_task(client.one(b"wait"))
    await asyncio.wait_for(echo.begun.wait(), 10)
    await client.channel.close()
    await asyncio.wait_for(echo.ended.wait(), 10)
    waiting.cancel()


async def test_messages_have_a_limit(client: Client) -> None:
    code, text = await refused(client.one(bytes(9 << 20)))
    assert code == "RESOURCE_EXHAUSTED"
    assert "at most 8388608" in text
    assert await client.one(b"next") == b"next"


async def test_compressed_requests_are_understood(server: Server, path: Path) -> None:
    client = Client(path)
    value = b"compress me " * 10_000
    assert await client.one(value, compression=grpc.Compression.Gzip) == value
    code, text = await refused(client.one(bytes(9 << 20), compression=grpc.Compression.Gzip))
    assert code == "RESOURCE_EXHAUSTED"
    code, text = await refused(client.one(value, compression=grpc.Compression.Deflate))
    assert code == "UNIMPLEMENTED"
    assert "gzip is understood" in text
    await client.channel.close()


async def test_a_request_that_is_no_message(client: Client) -> None:
    call = client.channel.unary_unary("/tests.http2.Echo/One", bytes, bytes)
    code, text = await refused(call(b"\xff\xff\xff"))
    assert code == "INTERNAL"
    assert "cannot be decoded" in text


async def test_a_listener_admits_whom_it_says(server: Server, tmp_path: Path) -> None:
    def admit(call: Call) -> None:
        if call.metadata.get("containerd-namespace") != "blue":
            raise PermissionDenied(f"{call.method}: only for namespace blue by this socket")

    await server.listen(tmp_path / "narrow", mode=0o600, admit=admit)
    assert stat.S_IMODE((tmp_path / "narrow").stat().st_mode) == 0o600
    client = Client(tmp_path / "narrow")
    assert await client.one(b"x", metadata=(("containerd-namespace", "blue"),)) == b"x"
    code, text = await refused(client.one(b"x", metadata=(("containerd-namespace", "red"),)))
    assert code == "PERMISSION_DENIED"
    assert "only for namespace blue" in text
    await client.channel.close()


async def test_stopping_lets_calls_finish_for_a_while(path: Path, echo: Echo) -> None:
    async with Server() as server:
        server.add(echo)
        await server.listen(path)
        client = Client(path)
        call = client.each()
        await call.write(BytesValue(value=b"a"))  # type: ignore[attr-defined]
        assert (await call.read()).value == b"a"  # type: ignore[attr-defined]
        stopping = asyncio.create_task(server.stop(10))
        await asyncio.sleep(0)
        await call.write(BytesValue(value=b"enough"))  # type: ignore[attr-defined]
        assert (await call.read()).value == b"enough"  # type: ignore[attr-defined]
        assert await call.code() is grpc.StatusCode.OK
        await asyncio.wait_for(stopping, 10)
        await client.channel.close()


async def test_stopping_ends_what_does_not_finish(path: Path, echo: Echo) -> None:
    async with Server() as server:
        server.add(echo)
        await server.listen(path)
        client = Client(path)
        waiting = asyncio.create_task(refused(client.one(b"wait")))
        await asyncio.wait_for(echo.begun.wait(), 10)
        await server.stop(0.1)
        assert (await waiting)[0] == "UNAVAILABLE"
        await asyncio.wait_for(echo.ended.wait(), 10)
        await client.channel.close()
