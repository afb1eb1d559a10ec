"""Contract 6 over gRPC, with clients and daemons that are killed."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from supervisor.api.services.content.v1 import content_pb2 as pb
from supervisor.api.services.content.v1 import content_pb2_grpc as rpc
from supervisor.content.local import LocalStore
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.store import Store
from supervisor.model.digest import of_bytes
from supervisor.services.content import Content
from tests.services.conftest import Serve

DATA = b"hello world"
HELLO = of_bytes(DATA)
BLUE = (("containerd-namespace", "blue"),)

PIECE = 2 << 20
StatusCode = grpc.StatusCode


@pytest.fixture
def content(store: Store, tmp_path: Path) -> ContentStore:
    return ContentStore(store.database, LocalStore(tmp_path / "content"))


@pytest_asyncio.fixture
async def stub(content: ContentStore, serve: Serve) -> AsyncIterator[rpc.ContentStub]:
    channel = await serve(lambda server: server.add(Content(content)))
    yield rpc.ContentStub(channel)


def message(action: int = pb.WRITE, **fields: object) -> pb.WriteContentRequest:
    return pb.WriteContentRequest(action=action, **fields)  # type: ignore[arg-type]


async def write(
    stub: rpc.ContentStub, *messages: pb.WriteContentRequest, metadata: object = BLUE
) -> list[pb.WriteContentResponse]:
    call = stub.Write(iter(messages), metadata=metadata)
    return [answer async for answer in call]


async def put(stub: rpc.ContentStub, data: bytes = DATA, ref: str = "put", **labels: str) -> str:
    pieces = [
        message(ref=ref, offset=start, data=data[start : start + PIECE])
        for start in range(0, len(data), PIECE)
    ]
    answers = await write(stub, *pieces, message(pb.COMMIT, ref=ref, offset=len(data), labels=labels))
    return answers[-1].digest


async def read(stub: rpc.ContentStub, digest: str = HELLO, **fields: int) -> list[pb.ReadContentResponse]:
    return [a async for a in stub.Read(pb.ReadContentRequest(digest=digest, **fields), metadata=BLUE)]


async def code(awaitable: object) -> StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await awaitable  # type: ignore[misc]
    return raised.value.code()


# --- unary


async def test_info_update_delete(stub: rpc.ContentStub) -> None:
    digest = await put(stub, a="1", b="2")
    info = (await stub.Info(pb.InfoRequest(digest=digest), metadata=BLUE)).info
    assert (info.digest, info.size, dict(info.labels)) == (HELLO, 11, {"a": "1", "b": "2"})
    assert info.created_at == info.updated_at
    update = pb.UpdateRequest(
        info=pb.Info(digest=digest, labels={"a": "9"}), update_mask=FieldMask(paths=["labels.a", "labels.b"])
    )
    assert dict((await stub.Update(update, metadata=BLUE)).info.labels) == {"a": "9"}
    await stub.Delete(pb.DeleteContentRequest(digest=digest), metadata=BLUE)
    for call, request in ((stub.Info, pb.InfoRequest), (stub.Delete, pb.DeleteContentRequest)):
        assert await code(call(request(digest=digest), metadata=BLUE)) is StatusCode.NOT_FOUND


async def test_a_malformed_digest_comes_before_a_missing_namespace(stub: rpc.ContentStub) -> None:
    for call, request in (
        (stub.Info, pb.InfoRequest(digest="x")),
        (stub.Update, pb.UpdateRequest(info=pb.Info(digest="sha256:x"))),
        (stub.Delete, pb.DeleteContentRequest(digest="")),
    ):
        assert await code(call(request)) is StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        [a async for a in stub.Read(pb.ReadContentRequest(digest="x"))]
    assert raised.value.code() is StatusCode.INVALID_ARGUMENT


async def test_a_namespace_is_needed(stub: rpc.ContentStub) -> None:
    assert await code(stub.Info(pb.InfoRequest(digest=HELLO))) is StatusCode.FAILED_PRECONDITION
    assert await code(stub.Status(pb.StatusRequest(ref="r"))) is StatusCode.FAILED_PRECONDITION
    assert await code(write(stub, message(ref="r"), metadata=())) is StatusCode.FAILED_PRECONDITION
    assert await code(write(stub, message(), metadata=())) is StatusCode.INVALID_ARGUMENT


async def test_update_without_info_or_with_another_path(stub: rpc.ContentStub) -> None:
    await put(stub)
    assert await code(stub.Update(pb.UpdateRequest(), metadata=BLUE)) is StatusCode.INVALID_ARGUMENT
    other = pb.UpdateRequest(info=pb.Info(digest=HELLO), update_mask=FieldMask(paths=["size"]))
    assert await code(stub.Update(other, metadata=BLUE)) is StatusCode.INVALID_ARGUMENT
    other.info.digest = of_bytes(b"unknown")
    assert await code(stub.Update(other, metadata=BLUE)) is StatusCode.NOT_FOUND


async def test_list_in_hundreds(stub: rpc.ContentStub, content: ContentStore) -> None:
    assert [m async for m in stub.List(pb.ListContentRequest(), metadata=BLUE)] == []
    for number in range(101):
        await put(stub, str(number).encode())
    chunks = [m async for m in stub.List(pb.ListContentRequest(), metadata=BLUE)]
    assert [len(chunk.info) for chunk in chunks] == [100, 1]
    digests = [info.digest for chunk in chunks for info in chunk.info]
    assert digests == sorted(digests)
    call = stub.List(pb.ListContentRequest(filters=["digest=x"]), metadata=BLUE)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        [m async for m in call]
    assert raised.value.code() is StatusCode.INVALID_ARGUMENT


async def test_status_list_and_abort(stub: rpc.ContentStub) -> None:
    await write(stub, message(ref="r", data=b"hello", total=11))
    status = (await stub.Status(pb.StatusRequest(ref="r"), metadata=BLUE)).status
    assert (status.ref, status.offset, status.total, status.expected) == ("r", 5, 11, "")
    listed = await stub.ListStatuses(pb.ListStatusesRequest(filters=["ref==r"]), metadata=BLUE)
    assert [s.ref for s in listed.statuses] == ["r"]
    await stub.Abort(pb.AbortRequest(ref="r"), metadata=BLUE)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Status(pb.StatusRequest(ref="r"), metadata=BLUE)
    assert raised.value.code() is StatusCode.NOT_FOUND
    assert (raised.value.details() or "").startswith('could not get status for ref "r": ')
    assert await code(stub.Abort(pb.AbortRequest(ref="r"), metadata=BLUE)) is StatusCode.NOT_FOUND


# --- Read (6.2)


async def test_read_in_pieces_of_a_mebibyte(stub: rpc.ContentStub) -> None:
    data = bytes(range(256)) * 10240  # 2.5 MiB
    digest = await put(stub, data)
    answers = await read(stub, digest)
    assert [len(a.data) for a in answers] == [1 << 20, 1 << 20, 1 << 19]
    assert [a.offset for a in answers] == [0, 1 << 20, 2 << 20]
    assert b"".join(a.data for a in answers) == data


@pytest.mark.parametrize(
    ("offset", "size", "wanted"),
    [(0, 0, DATA), (-5, -1, DATA), (6, 0, b"world"), (6, 2, b"wo"), (6, 99, b"world"), (11, 0, b"")],
)
async def test_read_a_span(stub: rpc.ContentStub, offset: int, size: int, wanted: bytes) -> None:
    await put(stub)
    answers = await read(stub, offset=offset, size=size)
    assert b"".join(a.data for a in answers) == wanted
    assert [a.offset for a in answers] == ([0] if wanted else [])


async def test_read_behind_the_end_or_of_nothing(stub: rpc.ContentStub) -> None:
    await put(stub)
    assert await code(read(stub, offset=12)) is StatusCode.OUT_OF_RANGE
    assert await code(read(stub, of_bytes(b"x"))) is StatusCode.NOT_FOUND


async def test_a_reader_that_stops_leaves_no_file_open(stub: rpc.ContentStub) -> None:
    digest = await put(stub, bytes(8 << 20))
    call = stub.Read(pb.ReadContentRequest(digest=digest), metadata=BLUE)
    await call.read()
    assert open_blobs() == 1
    call.cancel()
    await eventually(lambda: open_blobs() == 0)


def open_blobs() -> int:
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum("/blobs/sha256/" in str(link) for link in links)


async def eventually(holds: object) -> None:
    deadline = time.monotonic() + 10
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# --- Write (6.3)


async def test_the_last_answer_is_sent_twice(stub: rpc.ContentStub) -> None:
    closed = await write(stub, message(ref="r", data=b"hello"))
    assert [a.offset for a in closed] == [5, 5]
    committed = await write(stub, message(pb.COMMIT, ref="r", offset=5, data=b" world", expected=HELLO))
    assert [(a.action, a.offset, a.digest) for a in committed] == [(pb.COMMIT, 11, HELLO)] * 2


async def test_stat_carries_times_and_another_action_is_echoed(stub: rpc.ContentStub) -> None:
    plain, stat, echo, _ = await write(
        stub, message(ref="r", data=b"hello"), message(pb.STAT, total=11), message(9)
    )
    assert (plain.HasField("started_at"), stat.HasField("started_at"), stat.total) == (False, True, 11)
    assert (echo.action, echo.offset, echo.started_at) == (9, 5, stat.started_at)


async def test_a_ref_that_is_open_is_unavailable(stub: rpc.ContentStub) -> None:
    first = stub.Write(metadata=BLUE)
    await first.write(message(ref="r", data=b"hello"))
    await first.read()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await write(stub, message(pb.STAT, ref="r"))
    assert raised.value.code() is StatusCode.UNAVAILABLE
    assert "locked for" in (raised.value.details() or "")
    await first.done_writing()
    await first.read()
    assert await first.read() is grpc.aio.EOF
    assert (await write(stub, message(pb.STAT, ref="r")))[0].offset == 5


async def test_a_cancelled_stream_keeps_the_ingest_and_frees_the_ref(stub: rpc.ContentStub) -> None:
    call = stub.Write(metadata=BLUE)
    await call.write(message(ref="r", data=b"hello "))
    await call.read()
    call.cancel()
    answer = await resumed(stub, "r")
    assert answer.offset == 6
    done = await write(stub, message(pb.COMMIT, ref="r", offset=6, data=b"world", expected=HELLO))
    assert done[0].digest == HELLO


async def resumed(stub: rpc.ContentStub, ref: str) -> pb.WriteContentResponse:
    """The ref's state, asked as containerd's clients do: again while it is unavailable."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return (await write(stub, message(pb.STAT, ref=ref)))[0]
        except grpc.aio.AioRpcError as error:
            if error.code() is not StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, StatusCode.INVALID_ARGUMENT),
        ({"ref": "r", "offset": 3}, StatusCode.OUT_OF_RANGE),
        ({"ref": "r", "data": DATA, "total": 12}, StatusCode.FAILED_PRECONDITION),
        ({"ref": "r", "data": DATA, "expected": of_bytes(b"x")}, StatusCode.FAILED_PRECONDITION),
        ({"ref": "r", "data": DATA, "expected": "nocolon"}, StatusCode.INVALID_ARGUMENT),
        ({"ref": "r", "data": DATA, "labels": {"k": "v" * 4096}}, StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_refused_commits(stub: rpc.ContentStub, fields: dict[str, object], wanted: StatusCode) -> None:
    assert await code(write(stub, message(pb.COMMIT, **fields))) is wanted


async def test_what_exists_already(stub: rpc.ContentStub) -> None:
    await put(stub)
    assert await code(write(stub, message(pb.STAT, ref="r", expected=HELLO))) is StatusCode.ALREADY_EXISTS
    assert await code(put(stub, ref="again")) is StatusCode.ALREADY_EXISTS
    lease = (*BLUE, ("containerd-lease", "nope"))
    assert await code(write(stub, message(ref="r"), metadata=lease)) is StatusCode.NOT_FOUND


async def test_the_loop_runs_on_while_a_large_blob_is_written(stub: rpc.ContentStub) -> None:
    """Client, server and this ticker share one loop, so a step that blocked it would show here."""
    piece = bytes(3 << 20)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async with asyncio.TaskGroup() as group:
        ticker = group.create_task(tick())
        pieces = [message(ref="big", offset=n * len(piece), data=piece) for n in range(20)]
        answers = await write(stub, *pieces, message(pb.COMMIT, offset=20 * len(piece)))
        ticker.cancel()
    assert answers[-1].offset == 60 << 20
    assert ticks > len(pieces)


# --- killed clients and daemons


@contextmanager
def daemon(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = Path(__file__).with_name("content_daemon.py")
    with subprocess.Popen([sys.executable, program, root, root / "s"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"serving\n"
            yield process
        finally:
            process.kill()


@contextmanager
def half_a_write(root: Path, data: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """A client process that has written `data` and holds its stream open."""
    program = Path(__file__).with_name("content_writer.py")
    with subprocess.Popen(
        [sys.executable, program, root / "s", "r"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(data)
            process.stdin.close()
            assert process.stdout.readline() == b"%d\n" % len(data)
            yield process
        finally:
            process.kill()


async def finish(root: Path, first: bytes, rest: bytes) -> None:
    whole = of_bytes(first + rest)
    async with grpc.aio.insecure_channel(f"unix:{root}/s") as channel:
        stub = rpc.ContentStub(channel)
        answer = await resumed(stub, "r")
        assert (answer.offset, answer.digest) == (len(first), of_bytes(first))
        commit = message(pb.COMMIT, ref="r", offset=len(first), data=rest, expected=whole)
        assert (await write(stub, commit))[0].digest == whole
        assert b"".join([a.data for a in await read(stub, whole)]) == first + rest


async def test_a_killed_client_loses_nothing(tmp_path: Path) -> None:
    first = bytes(range(256)) * 8192  # 2 MiB
    with daemon(tmp_path):
        with half_a_write(tmp_path, first) as client:
            client.kill()
        await finish(tmp_path, first, b"and the rest")


async def test_a_killed_daemon_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    first = bytes(range(256)) * 8192
    with daemon(tmp_path) as server, half_a_write(tmp_path, first):
        server.kill()
        server.wait()
    with daemon(tmp_path):
        await finish(tmp_path, first, b"and the rest")
