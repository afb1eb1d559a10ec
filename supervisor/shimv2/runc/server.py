"""The shim's life as a server: from a listening socket to the last event (containerd: pkg/shim, `serve`).

One thread, one loop. What waits for a runtime or a disk, and what needs more than a little memory, runs
in children (`forks`): a shim spends nearly all of its life waiting, and what it once has written to
stays its own. For the same reason the launcher makes a `Shim` before it forks, and it has no more to do
then than to `begin`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from supervisor.errors import SupervisorError
from supervisor.kernel.sockets import Socket
from supervisor.model.record import record
from supervisor.shimv2.runc import log
from supervisor.shimv2.runc.container import Surroundings
from supervisor.shimv2.runc.forks import Begin, Forks, Handed, fork_child
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.publisher import Publisher
from supervisor.shimv2.runc.reaper import Reaper
from supervisor.shimv2.runc.task import TaskService
from supervisor.ttrpc.looped import Server
from supervisor.ttrpc.promise import Promise, begin

FLUSH_SECONDS = 5.0
CHILDREN_SECONDS = 1.0
"""They end with the shim in any case; who waits for its end shall find nothing of it."""


@record
class Identity:
    """Which shim this is: its namespace, its socket's path and inode, and where the daemon takes events."""

    namespace: str
    socket_path: str
    inode: int
    events_address: str


class Shim:
    """What one shim's process is made of."""

    def __init__(self, begin: Begin = fork_child) -> None:
        self.loop = Loop()
        self.reaper = Reaper()
        self.forks = Forks(self.loop, self.reaper, begin)
        self._identity: Identity | None = None
        self._publisher = Publisher(self.loop)
        self._around = Surroundings(self.loop, self.reaper, self.forks, self._publisher.tell)
        service = TaskService(self._around, self.end, self._publisher.hurry)
        self.server = Server(service.services(), self.loop)
        self._signals: dict[int, Callable[[], None]] = {
            signal.SIGCHLD: self.reaper.collect,
            signal.SIGTERM: self.end,
            signal.SIGINT: self.end,
        }

    def begin(self) -> None:
        """Be ready to fork, and to hear of it."""
        self.loop.open()
        self.loop.handle_signals(self._signals)

    def serve(self, identity: Identity, listener: Socket) -> None:
        """Serve tasks; Shutdown or a signal ends the loop."""
        self._identity = identity
        self._around.namespace = identity.namespace
        self._publisher.begin(identity.events_address, identity.namespace)
        self.server.listen(listener)
        log.debug("serving %s", identity.socket_path)

    def take_over(self, prepared: Promise[tuple[Any, Handed]]) -> None:
        """Serve at the socket that a child has prepared, in the bundle that it stands in; if there is one."""
        try:
            told, handed = prepared.result()
        except SupervisorError as error:
            log.error("the start of a shim failed: %s", error)
            told = None
        if told is None:
            self.loop.stop()
            return
        identity, debugging, (listener, bundle, stderr) = told
        os.fchdir(handed[bundle])
        os.dup2(handed[stderr], log.STDERR)
        os.close(handed[bundle])
        os.close(handed[stderr])
        log.set_debugging(debugging)
        self.serve(Identity(*identity), Socket(fileno=handed[listener]))

    def end(self) -> None:
        """End the loop, once all that happened is told.

        The socket's name goes first: who starts a shim of this group now shall not find one that ends.
        """
        identity, self._identity = self._identity, None
        if identity is None:
            return
        with suppress(FileNotFoundError):
            if os.stat(identity.socket_path).st_ino == identity.inode:
                os.unlink(identity.socket_path)
        begin(self._end())

    def close(self) -> None:
        """Let go of everything that is open; for one that was never told to end."""
        self._publisher.disconnect()
        self.server.close()
        self.forks.close()
        self.loop.close()

    async def _end(self) -> None:
        self.forks.close()
        await self._publisher.flush(FLUSH_SECONDS)
        await self.forks.ended(CHILDREN_SECONDS)
        self.loop.stop()
