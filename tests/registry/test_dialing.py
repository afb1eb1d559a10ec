"""Connecting to a host of which some addresses do not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from supervisor.registry.dialing import dial

LONG = 20.0


@contextmanager
def listening(address: str, port: int = 0) -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind((address, port))
        server.listen()
        yield server


@contextmanager
def deaf(address: str, port: int) -> Iterator[None]:
    """A port whose queue is full: the kernel drops what else comes, as a firewall would."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind((address, port))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address, port))
        yield


@pytest.fixture
def addresses(monkeypatch):
    """Gives a name the addresses that a test wants."""

    def set_to(*found: str) -> None:
        def getaddrinfo(host: str, port: int, *_: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return set_to


def test_an_address_that_does_not_answer_does_not_keep_the_next_from_it(addresses):
    addresses("127.0.0.2", "127.0.0.1")
    with listening("127.0.0.1") as server:
        port = server.getsockname()[1]
        with deaf("127.0.0.2", port), dial("many.example", port, LONG, []) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)


def test_an_address_that_refuses_is_followed_by_the_next(addresses):
    addresses("127.0.0.3", "127.0.0.1")
    with listening("127.0.0.1") as server:
        port = server.getsockname()[1]
        with dial("many.example", port, LONG, []) as sock:
            assert sock.getpeername()[0] == "127.0.0.1"


def test_when_none_answers_the_time_is_kept(addresses):
    addresses("127.0.0.2")
    with listening("127.0.0.1") as server:
        port = server.getsockname()[1]
        with deaf("127.0.0.2", port), pytest.raises(TimeoutError):
            dial("one.example", port, 0.1, [])


def test_when_all_refuse_it_is_said(addresses):
    addresses("127.0.0.3", "127.0.0.4")
    with listening("127.0.0.1") as server, pytest.raises(ConnectionRefusedError):
        dial("two.example", server.getsockname()[1], LONG, [])


def test_when_the_last_is_too_late_others_have_had_their_turn(addresses):
    addresses("127.0.0.2", "127.0.0.3", "127.0.0.1")
    with listening("127.0.0.1") as server:
        port = server.getsockname()[1]
        with deaf("127.0.0.2", port), deaf("127.0.0.3", port), dial("x.example", port, LONG, []) as sock:
            assert sock.getpeername()[0] == "127.0.0.1"


def test_options_are_set(addresses):
    with listening("127.0.0.1") as server:
        options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        with dial("127.0.0.1", server.getsockname()[1], LONG, options) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
