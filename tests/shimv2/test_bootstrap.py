"""Bootstrap forms: contract tasks 2.3, 2.5, 2.6."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import SupervisorError
from supervisor.model.any import Any
from supervisor.shimv2.bootstrap import (
    BootstrapParams,
    ShimAddress,
    encode_answer,
    encode_answer_json,
    encode_params,
    parse_answer,
    parse_params,
    socket_path,
)

ADDRESS = "unix:///run/x/s/" + "a" * 64


def test_socket_path_is_the_digest_of_the_joined_names() -> None:
    digest = hashlib.sha256(b"/run/c.sock/ns/id").hexdigest()
    assert socket_path("/run/s", "/run/c.sock", "ns", "id") == f"/run/s/{digest}"
    assert socket_path("/run/s", "/run/../run//c.sock", "ns", "id") == f"/run/s/{digest}"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("encode", [encode_answer, encode_answer_json])
def test_answers_there_and_back(version: int, encode: object) -> None:
    shim = ShimAddress(version, ADDRESS)
    assert parse_answer(encode(shim)) == shim  # type: ignore[operator]


def test_plain_answer_is_version_2() -> None:
    assert parse_answer(f"{ADDRESS}\n".encode()) == ShimAddress(2, ADDRESS)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no address",
        b"a warning\n" + ADDRESS.encode(),
        encode_answer_json(ShimAddress(4, ADDRESS)),
        encode_answer_json(ShimAddress(1, ADDRESS)),
        encode_answer(ShimAddress(3, ADDRESS, "grpc")),
        encode_answer(ShimAddress(3, "vsock://1:2")),
    ],
)
def test_other_answers_are_refused(answer: bytes) -> None:
    with pytest.raises(SupervisorError, match="shim"):
        parse_answer(answer)


@given(st.binary(max_size=200))
def test_any_answer_is_read_or_refused(answer: bytes) -> None:
    with contextlib.suppress(SupervisorError):
        parse_answer(answer)


def test_params_there_and_back() -> None:
    params = BootstrapParams("id", "ns", -4, "1", "/t", "/g", "/b", Any("t", b"\x0a\x01x"), "/s")
    assert parse_params(encode_params(params), "ns", "id") == params


@pytest.mark.parametrize("stdin", [b"", b"\xff", encode_params(BootstrapParams("other", "ns"))])
def test_other_stdin_is_no_params(stdin: bytes) -> None:
    assert parse_params(stdin, "ns", "id") is None
