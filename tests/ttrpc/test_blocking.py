"""The blocking client and server, with real sockets: contract tasks 1.2 to 1.4."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from supervisor.api.runtime.task.v3 import shim_pb2 as task
from supervisor.errors import DeadlineExceeded, NotFound, ResourceExhausted, Unimplemented
from supervisor.ttrpc.blocking import Client, Server
from supervisor.ttrpc.calls import Call, ConnectionClosed, Method
from supervisor.ttrpc.wire import DATA, MAX_PAYLOAD, REQUEST, Decoder, Frame, encode

SERVICE = "test.Service"


class Loop:
    """A server with the selector loop that its owner has to run."""

    def __init__(self, path: Path) -> None:
        self.waits: list[Future[task.WaitResponse]] = []
        self.calls: list[Call] = []
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()
        self.selector = selectors.DefaultSelector()
        self.server = Server(listener, {SERVICE: self.methods()}, selector=self.selector)
        self.stop_read, self.stop_write = socket.socketpair()
        self.selector.register(self.stop_read, selectors.EVENT_READ, None)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def methods(self) -> dict[str, Method]:
        return {
            "Echo": Method(task.StateRequest, self.echo),
            "Wait": Method(task.WaitRequest, self.wait, inline=True),
            "Fail": Method(task.StateRequest, self.fail),
            "Big": Method(task.StateRequest, self.big),
        }

    def echo(self, request: task.StateRequest, call: Call) -> task.StateResponse:
        self.calls.append(call)
        return task.StateResponse(id=request.id)

    def wait(self, request: task.WaitRequest, call: Call) -> Future[task.WaitResponse]:
        future: Future[task.WaitResponse] = Future()
        self.waits.append(future)
        return future

    def fail(self, request: task.StateRequest, call: Call) -> task.StateResponse:
        raise NotFound(f"process does not exist {request.id}")

    def big(self, request: task.StateRequest, call: Call) -> task.StateResponse:
        return task.StateResponse(id="x" * int(request.id))

    def run(self) -> None:
        while True:
            for key, mask in self.selector.select():
                if key.data is None:
                    return
                key.data(mask)

    def close(self) -> None:
        self.stop_write.close()
        self.thread.join()
        self.server.close()
        self.selector.close()
        self.stop_read.close()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    running = Loop(tmp_path / "s")
    yield running
    running.close()


@pytest.fixture
def client(loop: Loop, tmp_path: Path) -> Iterator[Client]:
    with Client(str(tmp_path / "s")) as connected:
        yield connected


def echo(client: Client, text: str = "x", **options: object) -> str:
    return client.call(SERVICE, "Echo", task.StateRequest(id=text), task.StateResponse, **options).id  # type: ignore[arg-type]


def test_call(client: Client) -> None:
    assert echo(client, "hello") == "hello"


def test_metadata_and_deadline_reach_the_handler(client: Client, loop: Loop) -> None:
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


def test_a_waiting_call_delays_no_other(client: Client, loop: Loop) -> None:
    with ThreadPoolExecutor(20) as pool:
        waits = [
            pool.submit(client.call, SERVICE, "Wait", task.WaitRequest(), task.WaitResponse)
            for _ in range(20)
        ]
        while len(loop.waits) < 20:
            assert echo(client, "between") == "between"
        for status, wait in enumerate(loop.waits):
            wait.set_result(task.WaitResponse(exit_status=status))
        assert sorted(wait.result().exit_status for wait in waits) == list(range(20))


def test_a_timeout_abandons_the_call_only(client: Client, loop: Loop) -> None:
    with pytest.raises(DeadlineExceeded, match="Wait"):
        client.call(SERVICE, "Wait", task.WaitRequest(), task.WaitResponse, timeout=0.01)
    loop.waits[0].set_result(task.WaitResponse(exit_status=1))
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


def test_a_peer_that_does_not_read_stalls_nobody_else(client: Client, loop: Loop, tmp_path: Path) -> None:
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


def test_server_end_fails_calls_in_flight(loop: Loop, tmp_path: Path) -> None:
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
def raw(loop: Loop, tmp_path: Path) -> Iterator[Raw]:
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
