"""The shim's life as a server: from a listening socket to the last event (containerd: pkg/shim, `serve`).

Everything runs in the loop of the main thread, except what waits for a runtime or for the daemon.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass

from supervisor.kernel.process import set_child_subreaper
from supervisor.shimv2.runc.container import Surroundings
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.publisher import Publisher
from supervisor.shimv2.runc.reaper import Reaper
from supervisor.shimv2.runc.task import TaskService
from supervisor.ttrpc.blocking import Server

FLUSH_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which shim this is: its namespace, its socket's path, and where the daemon takes events."""

    namespace: str
    socket_path: str
    events_address: str


def serve(identity: Identity, listener: socket.socket) -> None:
    """Serve tasks until Shutdown or a signal asks for the end."""
    set_child_subreaper()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    loop = Loop()
    reaper = Reaper()
    publisher = Publisher(identity.events_address, identity.namespace)
    ending = _Ending(identity, loop)
    around = Surroundings(identity.namespace, loop, reaper, publisher.tell)
    service = TaskService(around, ending.begin, publisher.hurry)
    server = Server(listener, service.services(), selector=loop.selector)
    loop.handle_signals(
        {signal.SIGCHLD: reaper.collect, signal.SIGTERM: ending.begin, signal.SIGINT: ending.begin}
    )
    log.info("serving %s", identity.socket_path)
    loop.run()
    publisher.flush(FLUSH_SECONDS)
    server.close()


class _Ending:
    """The socket's name goes first: who starts a shim of this group now shall not find one that ends."""

    def __init__(self, identity: Identity, loop: Loop) -> None:
        self._path = identity.socket_path
        self._loop = loop
        self._inode = os.stat(self._path).st_ino
        self._begun = False

    def begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        with suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        self._loop.stop()
