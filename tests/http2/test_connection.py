"""The rules of RFC 9113 as a client that says frames itself sees them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from supervisor.http2 import connection, frames, messages
from supervisor.http2 import stream as streams
from supervisor.http2.frames import Code, Flag, Setting, Type
from supervisor.http2.server import Server
from supervisor.http2.stream import WINDOW
from tests.http2.speaker import Echo, Speaker

MESSAGE = messages.framed(b"\x0a\x05hello")
WAIT = messages.framed(b"\x0a\x04wait")
END = Flag.END_STREAM | Flag.END_HEADERS


@pytest_asyncio.fixture
async def speaker(server: Server, path: Path) -> AsyncIterator[Speaker]:
    speaker = await Speaker.connect(path)
    yield speaker
    await speaker.close()


async def hung_up(speaker: Speaker) -> Code:
    """The code of the GOAWAY behind which the connection ended."""
    _, _, _, payload = await speaker.hear(Type.GOAWAY)
    with pytest.raises(EOFError):
        await speaker.hear(Type.DATA)
    return Code(struct.unpack_from(">II", payload)[1])


async def answer(speaker: Speaker) -> bytes:
    data = (await speaker.hear(Type.DATA))[3]
    assert await speaker.status() == "0"
    return data


async def test_an_answer_is_headers_data_and_trailers(speaker: Speaker) -> None:
    """8.1; and that our side keeps no table is said once, in front of the first block (RFC 7541, 4.2)."""
    for stream in (1, 3):
        speaker.call(stream, "One", MESSAGE)
        opening = await speaker.hear(Type.HEADERS)
        assert opening[3].startswith(b"\x20") == (stream == 1)
        assert speaker.fields(opening) == {":status": "200", "content-type": "application/grpc"}
        assert await speaker.hear(Type.DATA) == (Type.DATA, 0, stream, MESSAGE)
        trailers = await speaker.hear(Type.HEADERS)
        assert (trailers[1], speaker.fields(trailers)) == (END, {"grpc-status": "0"})


async def test_frames_may_come_in_any_pieces(speaker: Speaker) -> None:
    block = speaker.block("/tests.http2.Echo/One")
    said = frames.frame(Type.HEADERS, Flag.END_HEADERS, 1, block)
    said += frames.frame(Type.DATA, Flag.END_STREAM, 1, MESSAGE)
    for place in range(len(said)):
        speaker.say(said[place : place + 1])
        await speaker.writer.drain()
        await asyncio.sleep(0)
    assert await answer(speaker) == MESSAGE


async def test_padding_priority_and_continuations(speaker: Speaker) -> None:
    """6.1, 6.2, 6.10: what surrounds a block or data is left away; unknown frames are ignored (4.1)."""
    block = speaker.block("/tests.http2.Echo/One")
    first = bytes([3]) + bytes(5) + block[:10] + bytes(3)
    speaker.say(
        frames.frame(0x77, 0xFF, 1, b"unknown"),
        frames.frame(Type.PRIORITY, 0, 1, bytes(5)),
        frames.frame(Type.HEADERS, Flag.PADDED | Flag.PRIORITY, 1, first),
        frames.frame(Type.CONTINUATION, 0, 1, block[10:20]),
        frames.frame(Type.CONTINUATION, Flag.END_HEADERS, 1, block[20:]),
        frames.frame(Type.DATA, Flag.PADDED, 1, bytes([2]) + MESSAGE[:4] + bytes(2)),
        frames.frame(Type.DATA, 0, 1, MESSAGE[4:]),
        frames.frame(Type.DATA, Flag.END_STREAM, 1),
    )
    assert await answer(speaker) == MESSAGE


async def test_pings_and_settings_are_acknowledged(speaker: Speaker) -> None:
    assert (await speaker.hear(Type.SETTINGS))[1] == 0  # ours
    assert (await speaker.hear(Type.SETTINGS))[1] == Flag.ACK
    speaker.say(frames.frame(Type.PING, 0, 0, b"12345678"))
    assert await speaker.hear(Type.PING) == (Type.PING, Flag.ACK, 0, b"12345678")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (frames.frame(Type.DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
        (frames.frame(Type.HEADERS, Flag.END_HEADERS, 2, b"\x82"), Code.PROTOCOL_ERROR),
        (frames.frame(Type.HEADERS, Flag.END_HEADERS, 1, b"\xff\xff\xff\xff\x7f"), Code.COMPRESSION_ERROR),
        (frames.frame(Type.HEADERS, Flag.PADDED, 1, b"\x05abc"), Code.PROTOCOL_ERROR),
        (frames.frame(Type.HEADERS, Flag.PRIORITY, 1, b"abc"), Code.FRAME_SIZE_ERROR),
        (
            frames.frame(Type.HEADERS, 0, 1, b"") + frames.frame(Type.PING, 0, 0, bytes(8)),
            Code.PROTOCOL_ERROR,
        ),
        (frames.frame(Type.CONTINUATION, 0, 1, b""), Code.PROTOCOL_ERROR),
        (frames.frame(Type.PUSH_PROMISE, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
        (frames.frame(Type.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
        (frames.frame(Type.SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
        (frames.settings({Setting.MAX_FRAME_SIZE: 1}), Code.PROTOCOL_ERROR),
        (frames.settings({Setting.INITIAL_WINDOW_SIZE: 1 << 31}), Code.FLOW_CONTROL_ERROR),
        (frames.frame(Type.PING, 0, 0, bytes(7)), Code.PROTOCOL_ERROR),
        (frames.frame(Type.RST_STREAM, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
        (frames.frame(Type.RST_STREAM, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
        (frames.window_update(0, 0), Code.PROTOCOL_ERROR),
        (frames.window_update(0, frames.MAX_WINDOW), Code.FLOW_CONTROL_ERROR),
        (frames.window_update(9, 1), Code.PROTOCOL_ERROR),
        (frames.head(frames.DEFAULT_FRAME_BYTES + 1, Type.DATA, 0, 1), Code.FRAME_SIZE_ERROR),
    ],
)
async def test_who_breaks_a_rule_is_told_and_hung_up_on(speaker: Speaker, said: bytes, code: Code) -> None:
    speaker.say(said)
    assert await hung_up(speaker) is code


async def test_what_is_not_http2_is_hung_up_on(server: Server, path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(10):
        assert b"this is not HTTP/2" in await reader.read()
    writer.close()


async def test_a_block_without_an_end_has_a_bound(speaker: Speaker) -> None:
    speaker.say(frames.frame(Type.HEADERS, 0, 1, b""))
    for _ in range(connection.MAX_BLOCK_BYTES // frames.DEFAULT_FRAME_BYTES + 1):
        speaker.say(frames.frame(Type.CONTINUATION, 0, 1, bytes(frames.DEFAULT_FRAME_BYTES)))
    assert await hung_up(speaker) is Code.ENHANCE_YOUR_CALM


async def test_headers_without_an_end_have_a_bound(speaker: Speaker) -> None:
    """A small block may mean a large list: one entry of the table, again and again."""
    block = speaker.block("/tests.http2.Echo/One", ("x", "y" * 3000))
    speaker.say(frames.frame(Type.HEADERS, Flag.END_HEADERS, 1, block + b"\xbe" * 8000))
    assert await hung_up(speaker) is Code.COMPRESSION_ERROR


async def test_what_is_no_call_of_grpc(speaker: Speaker) -> None:
    block = speaker.block("/tests.http2.Echo/One", method="GET")
    speaker.say(frames.frame(Type.HEADERS, END, 1, block))
    assert await speaker.status() == "405"
    text = speaker._encoder.encode([(":method", "POST"), (":path", "/"), ("content-type", "text/html")])
    speaker.say(frames.frame(Type.HEADERS, END, 3, text))
    assert await speaker.status() == "415"


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"", "3"),
        (MESSAGE * 2, "3"),
        (MESSAGE[:-1], "13"),
        (b"\1" + MESSAGE[1:], "12"),
        (b"\0" + (99 << 20).to_bytes(4, "big"), "8"),
    ],
)
async def test_requests_that_are_not_one_message(speaker: Speaker, message: bytes, status: str) -> None:
    """The call ends with an error, and the connection goes on."""
    speaker.call(1, "One", message)
    assert await speaker.status() == status
    speaker.call(3, "One", MESSAGE)
    assert await answer(speaker) == MESSAGE


@pytest.mark.parametrize("timeout", ["", "1", "1x", "123456789S", "-1S"])
async def test_a_malformed_timeout(speaker: Speaker, timeout: str) -> None:
    speaker.call(1, "One", MESSAGE, ("grpc-timeout", timeout))
    assert await speaker.status() == "3"


async def test_a_deadline_before_the_request_has_come(speaker: Speaker) -> None:
    block = speaker.block("/tests.http2.Echo/One", ("grpc-timeout", "50m"))
    speaker.say(frames.frame(Type.HEADERS, Flag.END_HEADERS, 1, block))
    assert await speaker.status() == "4"
    speaker.say(frames.frame(Type.DATA, 0, 1, b"late"))
    speaker.call(3, "One", MESSAGE)
    assert await answer(speaker) == MESSAGE


async def test_who_is_refused_hears_so_also_in_silence(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_SECONDS", 0.01)
    block = speaker.block("/tests.http2.Echo/Unknown")
    speaker.say(frames.frame(Type.HEADERS, Flag.END_HEADERS, 1, block))
    assert await speaker.status() == "12"


async def test_reset_ends_the_method_and_late_frames_are_no_error(speaker: Speaker, echo: Echo) -> None:
    speaker.call(1, "One", WAIT)
    await asyncio.wait_for(echo.begun.wait(), 10)
    speaker.say(frames.reset(1, Code.CANCEL), frames.window_update(1, 5), frames.reset(1, Code.CANCEL))
    speaker.say(frames.frame(Type.DATA, 0, 1, b"late"))
    speaker.call(3, "One", MESSAGE)
    assert await answer(speaker) == MESSAGE
    assert len(echo.calls) == 2
    assert echo.ended.is_set()


async def test_answers_keep_to_the_windows(server: Server, path: Path) -> None:
    """6.9: of the stream and of the connection, also when the client changes its mind (6.9.2)."""
    speaker = await Speaker.connect(path, frames.settings({Setting.INITIAL_WINDOW_SIZE: 10}))
    speaker.call(1, "One", MESSAGE)
    assert (await speaker.hear(Type.DATA))[3] == MESSAGE[:10]
    speaker.say(frames.settings({Setting.INITIAL_WINDOW_SIZE: 9}))  # one byte is owed now
    speaker.say(frames.window_update(1, 2))
    assert (await speaker.hear(Type.DATA))[3] == MESSAGE[10:11]
    speaker.say(frames.settings({Setting.INITIAL_WINDOW_SIZE: 10}))
    assert await answer(speaker) == MESSAGE[11:]
    await speaker.close()


async def test_a_client_that_sends_beyond_its_window_loses_the_stream(speaker: Speaker, echo: Echo) -> None:
    block = speaker.block("/tests.http2.Echo/Each")
    speaker.say(frames.frame(Type.HEADERS, Flag.END_HEADERS, 1, block))
    # The method does not get on: nobody takes its answers.
    piece = messages.framed(b"\x0a\xf8\x7f" + bytes(16_376))
    assert len(piece) == frames.DEFAULT_FRAME_BYTES
    for _ in range(WINDOW // len(piece) * 2):
        speaker.say(frames.frame(Type.DATA, 0, 1, piece))
    _, _, stream, payload = await speaker.hear(Type.RST_STREAM)
    assert (stream, int.from_bytes(payload, "big")) == (1, Code.FLOW_CONTROL_ERROR)


async def test_who_reads_nothing_is_not_served_for_ever(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acknowledgements pile up behind a client that only asks for them."""
    monkeypatch.setattr(connection, "MAX_UNREAD_BYTES", 100_000)
    ping = frames.frame(Type.PING, 0, 0, bytes(8)) * 1000

    async def ask() -> None:
        while True:
            speaker.say(ping)
            await speaker.writer.drain()

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(ask(), 20)


async def test_calls_behind_a_farewell_are_refused(path: Path, echo: Echo) -> None:
    """6.8: they were not looked at, so the client may make them elsewhere."""
    async with Server() as server:
        server.add(echo)
        await server.listen(path)
        speaker = await Speaker.connect(path)
        speaker.call(1, "One", WAIT)
        await asyncio.wait_for(echo.begun.wait(), 10)
        stopping = asyncio.create_task(server.stop(5))
        last, code = struct.unpack_from(">II", (await speaker.hear(Type.GOAWAY))[3])
        assert (last, code) == (1, Code.NO_ERROR)
        speaker.call(3, "One", MESSAGE)
        _, _, stream, payload = await speaker.hear(Type.RST_STREAM)
        assert (stream, int.from_bytes(payload, "big")) == (3, Code.REFUSED_STREAM)
        speaker.say(frames.reset(1, Code.CANCEL))
        await stopping
        await speaker.close()
