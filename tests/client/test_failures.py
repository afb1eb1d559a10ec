import asyncio
import socket

import grpc
import pytest

from supervisor import errors
from supervisor.client.client import Client

CASES = [
    (grpc.StatusCode.NOT_FOUND, 'image "x": not found', errors.NotFound),
    (grpc.StatusCode.ALREADY_EXISTS, "x: already exists", errors.AlreadyExists),
    (grpc.StatusCode.FAILED_PRECONDITION, "x: not modified", errors.NotModified),
    (grpc.StatusCode.FAILED_PRECONDITION, "x", errors.FailedPrecondition),
    (grpc.StatusCode.UNKNOWN, "x", errors.SupervisorError),
    (grpc.StatusCode.UNIMPLEMENTED, "x", errors.Unimplemented),
    (grpc.StatusCode.UNAVAILABLE, "ref locked: unavailable", errors.Unavailable),
]


async def call(address):
    async with Client(str(address)) as client:
        await client.introspection.version()


@pytest.mark.parametrize(("code", "text", "expected"), CASES)
def test_statuses_become_classes_and_keep_their_text(tmp_path, code, text, expected):
    async def refuse(request, context):
        await context.abort(code, text)

    async def scenario():
        server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(refuse)
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    "containerd.services.version.v1.Version", {"Version": method}
                )
            ]
        )
        server.add_insecure_port(f"unix:{tmp_path}/d.sock")
        await server.start()
        try:
            await call(tmp_path / "d.sock")
        finally:
            await server.stop(None)

    with pytest.raises(errors.SupervisorError) as caught:
        asyncio.run(scenario())
    assert type(caught.value) is expected
    assert str(caught.value).startswith(text)


def test_no_socket_is_said_so(tmp_path):
    with pytest.raises(errors.Unavailable, match="no such socket"):
        asyncio.run(call(tmp_path / "none.sock"))


def test_a_socket_without_a_daemon_is_said_so(tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "d.sock"))
        with pytest.raises(errors.Unavailable, match="start it again"):
            asyncio.run(call(tmp_path / "d.sock"))


def test_a_closed_client_is_said_so(tmp_path):
    async def scenario():
        client = Client(str(tmp_path / "d.sock"))
        await client.close()
        await client.introspection.version()

    with pytest.raises(errors.FailedPrecondition, match="new client"):
        asyncio.run(scenario())
