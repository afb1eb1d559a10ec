"""The border where gRPC's errors become ours; no type of grpc passes it (containerd: errdefs/pkg/errgrpc)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import grpc.aio

from supervisor.errors import (
    FailedPrecondition,
    PermissionDenied,
    SupervisorError,
    Unavailable,
    from_code,
)

# A connection to a path is made at once, unless the daemon hangs and its queue is full.
_PROBE_SECONDS = 1.0


@contextmanager
def translating(address: str) -> Iterator[None]:
    """Raise what the daemon at `address` answered as an error of `supervisor.errors`."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _translated(error, address) from None
    except grpc.aio.UsageError as error:
        raise FailedPrecondition(f"call the daemon at {address}: {error}; open a new client") from None


def _translated(error: grpc.aio.AioRpcError, address: str) -> SupervisorError:
    code = error.code().value[0]
    trouble = _connection_trouble(address) if code == Unavailable.code else None
    if trouble is not None:
        return trouble
    answered = from_code(code, error.details() or "")
    # The daemon's texts name the object and leave it to the class's words to say what is wrong with it.
    return type(answered)(answered.wire_text())


def _connection_trouble(address: str) -> SupervisorError | None:
    """Why nobody can be reached at `address`, or None when somebody can.

    gRPC says UNAVAILABLE for all of it; a connection of our own has an errno to go by.
    """
    what = f"connect to the daemon at {address}"
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_SECONDS)
            probe.connect(address)
    except FileNotFoundError:
        return Unavailable(
            f"{what}: there is no such socket; start the daemon or give the address it listens on"
        )
    except PermissionError:
        return PermissionDenied(f"{what} as user {os.geteuid()}: be root, or use a socket that you may open")
    except ConnectionRefusedError:
        return Unavailable(f"{what}: nobody listens there; the daemon has stopped, start it again")
    except OSError as error:
        return Unavailable(f"{what}: {error.strerror or error}")
    return None
