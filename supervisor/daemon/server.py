"""The daemon's life: lock, open, take over what runs, serve, stop (containerd: cmd/containerd/server).

Containers are not the daemon's to stop: whatever happens here, shims and their containers run on.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from supervisor.daemon.builtins import enabled
from supervisor.daemon.config import Config, Socket
from supervisor.daemon.notify import notify
from supervisor.daemon.plugins import Context, load_all
from supervisor.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from supervisor.events.exchange import Exchange
from supervisor.http2.server import Server
from supervisor.kernel.files import locked
from supervisor.kernel.sockets import MAX_PATH
from supervisor.services.absent import SERVICES
from supervisor.services.health import Health
from supervisor.services.scopes import Scope, check

log = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
"""How long calls in flight may go on once the daemon was told to stop."""


async def serve(config: Config) -> None:
    """Run until SIGTERM or SIGINT; raises SupervisorError when the daemon cannot start."""
    check_paths(config)
    stopping = _stop_on_signals()
    async with AsyncExitStack() as stack:
        for folder, mode in ((config.root, 0o711), (config.state, 0o711)):
            stack.enter_context(_owned_folder(Path(folder), mode))
        context = Context(config, stack)
        await load_all(enabled(config.snapshots.drivers), context)
        server = await stack.enter_async_context(_server(config, context))
        await _listen(server, config)
        _settle_memory()
        log.info("serving on %s", config.grpc.address)
        notify("READY=1")
        await stopping.wait()
        notify("STOPPING=1")
        log.info("stopping; containers run on")
        context.get(Health).stop()
        context.get(Exchange).close()
        await server.stop(GRACE_SECONDS)
    log.info("stopped")


def _settle_memory() -> None:
    """Keep what was loaded out of every later search for garbage: it stays for the daemon's life."""
    gc.collect()
    gc.freeze()


def check_paths(config: Config) -> None:
    """Refuse what could not work later; an address must be one that clients can connect to, too."""
    for folder, what in ((config.state, "state"), (config.root, "root")):
        if not folder.startswith("/"):
            raise InvalidArgument(f"{what} folder {folder!r} must be an absolute path")
    for name, socket in config.sockets.items():
        check(Scope(name, socket.namespaces, socket.methods))
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


def _server(config: Config, context: Context) -> Server:
    server = Server(max_message_bytes=config.grpc.max_message_bytes, absent=SERVICES)
    for part in context.parts.values():
        if part.servicer is not None:
            server.add(part.servicer)
    return server


async def _listen(server: Server, config: Config) -> None:
    path = Path(config.grpc.address)
    try:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        await server.listen(path, owner=(config.grpc.uid, config.grpc.gid))
    except OSError as error:
        raise FailedPrecondition(f"listen on {path}: {error}") from error
    for name, socket in config.sockets.items():
        await _listen_for(server, name, socket)


async def _listen_for(server: Server, name: str, socket: Socket) -> None:
    """Open a socket that is for some calls only."""
    scope = Scope(name, socket.namespaces, socket.methods)
    try:
        await server.listen(
            Path(socket.path),
            mode=int(socket.mode, 8),
            owner=(socket.uid, socket.gid),
            admit=scope.admit,
        )
    except OSError as error:
        raise FailedPrecondition(f"listen on {socket.path}, for sockets.{name}: {error}") from error
