"""The server and the client of a loop, with real sockets: contract tasks 1.2 to 1.4."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supervisor.api.runtime.task.v3 import shim_pb2 as task
from supervisor.errors import DeadlineExceeded, NotFound, ResourceExhausted, Unimplemented
from supervisor.ttrpc import looped
from supervisor.ttrpc.calls import Answer, Call, ConnectionClosed, Method
from supervisor.ttrpc.looped import Server
from supervisor.ttrpc.promise import Promise
from supervisor.ttrpc.wire import DATA, MAX_PAYLOAD, REQUEST, Decoder, Frame, encode
from tests.shimv2.runc.driving import Listening, eventually
from tests.ttrpc.client import Client

SERVICE = "test.Service"


def _listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    return listener


class Serving:
    """A server on a loop that runs in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.waits: list[Promise[task.WaitResponse]] = []
        self.calls: list[Call] = []
        self.running = Listening()
        self.server = Server({SERVICE: self.methods()}, self.running.loop)
        self.running.within(lambda: self.server.listen(_listener(path)))

    def methods(self) -> dict[str, Method]:
        return {
            "Echo": Method(task.StateRequest, self.echo),
            "Wait": Method(task.WaitRequest, self.wait),
            "Fail": Method(task.StateRequest, self.fail),
            "Big": Method(task.StateRequest, self.big),
        }

    def echo(self, request: task.StateRequest, call: Call) -> task.StateResponse:
        self.calls.append(call)
        return task.StateResponse(id=request.id)

    async def wait(self, request: task.WaitRequest, call: Call) -> task.WaitResponse:
        self.waits.append(Promise())
        return await self.waits[-1]

    def fail(self, request: task.StateRequest, call: Call) -> task.StateResponse:
        raise NotFound(f"process does not exist {request.id}")

    async def big(self, request: task.StateRequest, call: Call) -> task.StateResponse:
        return task.StateResponse(id="x" * int(request.id))

    def settle(self, wait: Promise[task.WaitResponse], status: int) -> None:
        self.running.within(lambda: wait.settle(task.WaitResponse(exit_status=status)))

    def close(self) -> None:
        self.running.within(self.server.close)
        self.running.end()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Serving]:
    running = Serving(tmp_path / "s")
    yield running
    running.close()


@pytest.fixture
def client(loop: Serving, tmp_path: Path) -> Iterator[Client]:
    with Client(str(tmp_path / "s")) as connected:
        yield connected


def echo(client: Client, text: str = "x", **options: object) -> str:
    return client.call(SERVICE, "Echo", task.StateRequest(id=text), task.StateResponse, **options).id  # type: ignore[arg-type]


def test_call(client: Client) -> None:
    assert echo(client, "hello") == "hello"


def test_metadata_and_deadline_reach_the_handler(client: Client, loop: Serving) -> None:
    echo(
        client,
        timeout=30,
        metadata=[("Containerd-Namespace-ttrpc", "a"), ("containerd-namespace-ttrpc", "b")],
    )
    assert loop.calls[0].metadata == {"containerd-namespace-ttrpc": ("a", "b")}
    remaining = loop.calls[0].remaining()
    assert remaining is not None
    assert 0 < remaining <= 30


def test_an_error_keeps_class_and_text(client: Client) -> None:
    with pytest.raises(NotFound, match=r"^process does not exist 7$"):
        client.call(SERVICE, "Fail", task.StateRequest(id="7"), task.StateResponse)


@pytest.mark.parametrize(("service", "method"), [("no.Such", "Echo"), (SERVICE, "NoSuch")])
def test_unknown_names(client: Client, service: str, method: str) -> None:
    with pytest.raises(Unimplemented, match=r"service no\.Such|method NoSuch"):
        client.call(service, method, task.StateRequest(), task.StateResponse)


def test_a_waiting_call_delays_no_other(client: Client, loop: Serving) -> None:
    with ThreadPoolExecutor(20) as pool:
        waits = [
            pool.submit(client.call, SERVICE, "Wait", task.WaitRequest(), task.WaitResponse)
            for _ in range(20)
        ]
        while len(loop.waits) < 20:
            assert echo(client, "between") == "between"
        for status, wait in enumerate(loop.waits):
            loop.settle(wait, status)
        assert sorted(wait.result().exit_status for wait in waits) == list(range(20))


def test_a_timeout_abandons_the_call_only(client: Client, loop: Serving) -> None:
    with pytest.raises(DeadlineExceeded, match="Wait"):
        client.call(SERVICE, "Wait", task.WaitRequest(), task.WaitResponse, timeout=0.01)
    loop.settle(loop.waits[0], 1)
    assert echo(client, "still here") == "still here"


def test_many_threads_on_one_connection(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        texts = [str(number) for number in range(500)]
        assert list(pool.map(lambda text: echo(client, text), texts)) == texts


def test_replies_at_and_above_the_limit(client: Client) -> None:
    fits = MAX_PAYLOAD - 100
    reply = client.call(SERVICE, "Big", task.StateRequest(id=str(fits)), task.StateResponse)
    assert len(reply.id) == fits
    with pytest.raises(ResourceExhausted, match=f"maximum message size of {MAX_PAYLOAD}"):
        client.call(SERVICE, "Big", task.StateRequest(id=str(MAX_PAYLOAD + 1)), task.StateResponse)
    assert echo(client) == "x"


def test_a_peer_that_does_not_read_stalls_nobody_else(client: Client, loop: Serving, tmp_path: Path) -> None:
    with Client(str(tmp_path / "s")) as other, ThreadPoolExecutor(4) as pool:
        big = [
            pool.submit(client.call, SERVICE, "Big", task.StateRequest(id=str(3 << 20)), task.StateResponse)
            for _ in range(4)
        ]
        assert echo(other) == "x"
        assert [len(reply.result().id) for reply in big] == [3 << 20] * 4


def test_request_above_the_limit_is_refused_locally(client: Client) -> None:
    with pytest.raises(ResourceExhausted):
        echo(client, "x" * (MAX_PAYLOAD + 1))
    assert echo(client) == "x"


def test_server_end_fails_calls_in_flight(loop: Serving, tmp_path: Path) -> None:
    with Client(str(tmp_path / "s")) as client, ThreadPoolExecutor(1) as pool:
        wait = pool.submit(client.call, SERVICE, "Wait", task.WaitRequest(), task.WaitResponse)
        while not loop.waits:
            echo(client)
        client._socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionClosed, match="ttrpc: closed"):
            wait.result()
        with pytest.raises(ConnectionClosed):
            echo(client)


class Raw:
    """Speaks frames by hand, to break rules."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.decoder = Decoder()

    def exchange(self, frame: Frame) -> str:
        from supervisor.api.ttrpc.ttrpc_pb2 import Response

        self.socket.sendall(encode(frame))
        while True:
            for answer in self.decoder.feed(self.socket.recv(65536)):
                assert isinstance(answer, Frame)
                assert answer.stream == frame.stream
                response = Response.FromString(answer.payload)
                return f"{response.status.code} {response.status.message}"


@pytest.fixture
def raw(loop: Serving, tmp_path: Path) -> Iterator[Raw]:
    connection = Raw(tmp_path / "s")
    yield connection
    connection.socket.close()


def test_even_stream_ids_are_refused(raw: Raw) -> None:
    assert raw.exchange(Frame(2, REQUEST, 0, b"")).startswith("3 StreamID must be odd")


def test_stream_ids_must_rise(raw: Raw) -> None:
    raw.exchange(Frame(5, REQUEST, 0, b""))
    assert raw.exchange(Frame(5, REQUEST, 0, b"")).startswith("3 StreamID cannot be re-used")


def test_data_without_a_stream_is_refused(raw: Raw) -> None:
    assert raw.exchange(Frame(1, DATA, 0, b"")).startswith("3 StreamID is no longer active")


def test_garbage_payload_is_answered(raw: Raw) -> None:
    assert raw.exchange(Frame(1, REQUEST, 0, b"\xff\xff")).startswith("3 unmarshal request error")


def test_an_oversized_frame_is_answered_and_the_connection_lives(raw: Raw) -> None:
    answer = raw.exchange(Frame(1, REQUEST, 0, bytes(MAX_PAYLOAD + 1)))
    assert answer.startswith(
        f"8 message length {MAX_PAYLOAD + 1} exceed maximum message size of {MAX_PAYLOAD}"
    )
    assert raw.exchange(Frame(3, REQUEST, 0, b"")).startswith("12 service ")


class Calling:
    """The loop's own client, asked from another thread."""

    def __init__(self, running: Listening, path: Path) -> None:
        self.running = running
        self.path = path
        self.answers: list[Promise[Answer]] = []
        self.running.within(self._connect)

    def _connect(self) -> None:
        self.client = looped.Client(self.running.loop, str(self.path))

    def call(self, method: str, request: bytes) -> Promise[Answer]:
        found: list[Promise[Answer]] = []
        self.running.within(lambda: found.append(self.client.call(SERVICE, method, request, 30.0, ())))
        return found[0]


def test_the_loops_client(loop: Serving, tmp_path: Path) -> None:
    calling = Calling(loop.running, tmp_path / "s")
    waiting = calling.call("Wait", b"")
    echoed = calling.call("Echo", task.StateRequest(id="x").SerializeToString())
    refused = calling.call("Fail", task.StateRequest(id="7").SerializeToString())
    eventually(lambda: echoed.done() and refused.done())
    assert echoed.result().decode(task.StateResponse).id == "x"
    with pytest.raises(NotFound, match="process does not exist 7"):
        refused.result().decode(task.StateResponse)
    assert not waiting.done()
    loop.running.within(loop.server.close)
    eventually(waiting.done)
    with pytest.raises(ConnectionClosed):
        waiting.result()
    late = calling.call("Echo", b"")
    with pytest.raises(ConnectionClosed):
        late.result()
    loop.running.within(lambda: loop.server.listen(_listener(tmp_path / "again")))


def test_nobody_listens(loop: Serving, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        looped.Client(loop.running.loop, str(tmp_path / "nobody"))
