"""The daemon's life: lock, open, take over what runs, serve, stop (containerd: cmd/containerd/server).

Containers are not the daemon's to stop: whatever happens here, shims and their containers run on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import grpc.aio

from supervisor.daemon.builtins import enabled
from supervisor.daemon.config import Config
from supervisor.daemon.notify import notify
from supervisor.daemon.plugins import Context, load_all
from supervisor.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from supervisor.events.exchange import Exchange
from supervisor.kernel.files import locked
from supervisor.kernel.sockets import MAX_PATH
from supervisor.services.absent import Absent
from supervisor.services.health import Health
from supervisor.services.interceptors import Errors

log = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
"""How long calls in flight may go on once the daemon was told to stop."""


async def serve(config: Config) -> None:
    """Run until SIGTERM or SIGINT; raises SupervisorError when the daemon cannot start."""
    _check_paths(config)
    stopping = _stop_on_signals()
    async with AsyncExitStack() as stack:
        for folder, mode in ((config.root, 0o711), (config.state, 0o711)):
            stack.enter_context(_owned_folder(Path(folder), mode))
        context = Context(config, stack)
        await load_all(enabled(config.snapshots.drivers), context)
        server = _grpc_server(config, context)
        _bind(server, config)
        await server.start()
        log.info("serving on %s", config.grpc.address)
        notify("READY=1")
        await stopping.wait()
        notify("STOPPING=1")
        log.info("stopping; containers run on")
        context.get(Health).stop()
        context.get(Exchange).close()
        await server.stop(GRACE_SECONDS)
    log.info("stopped")


def _check_paths(config: Config) -> None:
    """Refuse what could not work later; an address must be one that clients can connect to, too."""
    for folder, what in ((config.state, "state"), (config.root, "root")):
        if not folder.startswith("/"):
            raise InvalidArgument(f"{what} folder {folder!r} must be an absolute path")
    address, longest = config.grpc.address, MAX_PATH - len(".ttrpc")
    if not address.startswith("/") or len(os.fsencode(address)) > longest:
        raise InvalidArgument(f"address {address!r} must be an absolute path of at most {longest} bytes")


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


@contextmanager
def _owned_folder(folder: Path, mode: int) -> Iterator[None]:
    """Make the folder and hold it alone: two daemons on one root would destroy each other's work."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        lock = locked(folder / "lock")
        lock.__enter__()
    except BlockingIOError as error:
        raise FailedPrecondition(
            f"another daemon uses {folder} ({error.strerror}); stop it, or give this one other folders"
        ) from error
    except PermissionError as error:
        raise PermissionDenied(
            f"use the folder {folder}: {error.strerror}; the daemon runs as root"
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _grpc_server(config: Config, context: Context) -> grpc.aio.Server:
    server = grpc.aio.server(
        interceptors=[Errors()],
        options=[
            ("grpc.max_receive_message_length", config.grpc.max_message_bytes),
            ("grpc.max_send_message_length", config.grpc.max_message_bytes),
            ("grpc.so_reuseport", 0),
            # Clients ping as they like: over a unix socket that is no abuse.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_ping_strikes", 0),
        ],
    )
    for part in context.parts.values():
        if part.register is not None:
            part.register(server)
    server.add_generic_rpc_handlers((Absent(),))
    return server


def _bind(server: grpc.aio.Server, config: Config) -> None:
    """Bind the socket so that it never has a wider mode than 0660, not even for a moment."""
    path = Path(config.grpc.address)
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    umask = os.umask(0o117)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise FailedPrecondition(f"listen on {path}: {error}") from error
    finally:
        os.umask(umask)
    os.chown(path, config.grpc.uid, config.grpc.gid)
