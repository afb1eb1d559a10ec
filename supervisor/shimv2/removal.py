"""How tasks end: deleted by a client, given up half made, or lost with their shim.

(containerd: core/runtime/v2/shim.go, cleanupAfterDeadShim; contract 4.3 to 4.5.) Every step can be
repeated, and the row goes last: a crash anywhere in between is finished by the next daemon.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from google.protobuf.empty_pb2 import Empty

from supervisor.api.runtime.task.v3 import shim_pb2 as pb
from supervisor.blocking import in_thread
from supervisor.errors import NotFound, SupervisorError
from supervisor.kernel.process import terminate_and_wait
from supervisor.metadata import exits
from supervisor.metadata import tasks as rows
from supervisor.metadata.store import Store
from supervisor.model import instant
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.task import Exit, TaskState
from supervisor.shimv2.binary import ShimBinaries
from supervisor.shimv2.leftovers import remove_socket
from supervisor.shimv2.naming import is_own
from supervisor.shimv2.settings import ShimSettings
from supervisor.shimv2.tasks import Phase, Registry, Task
from supervisor.ttrpc.calls import ConnectionClosed
from supervisor.ttrpc.peer import plain_path

UNKNOWN_STATUS = 255
SHIM_DIED = "its shim died; what was left of it was killed, how it would have ended is not known"
MAKING_PATIENCE = 10.0  # seconds that a step of a create gets when its caller has left

log = logging.getLogger(__name__)


class Removal:
    """Takes tasks apart."""

    def __init__(
        self, settings: ShimSettings, store: Store, binaries: ShimBinaries, registry: Registry
    ) -> None:
        self._settings = settings
        self._store = store
        self._binaries = binaries
        self._registry = registry

    async def delete(self, task: Task) -> Exit:
        """Delete a task on a client's behalf; answers how it had ended.

        Raises SupervisorError, with the task untouched, when the shim refuses: it still runs.
        """
        former = await self._store.note(rows.begin_delete, task.namespace, task.id)
        task.phase = Phase.DELETING
        if former is TaskState.DELETING and (task.shim is None or task.shim.closed.done()):
            end = await self.recorded_exit(task)
            await self.finish(task, end)
            return end
        try:
            end = await self._delete_in_shim(task)
        except ConnectionClosed as error:
            await self.lost(task)
            raise SupervisorError(f"failed to delete task: {error}") from error
        except SupervisorError as error:
            kept = TaskState.RUNNING if former is TaskState.DELETING else former
            await self._store.note(rows.set_state, task.namespace, task.id, kept)
            task.phase = Phase.READY
            raise type(error)(f"failed to delete task: {error}") from error
        if is_own(task.binary):
            await self._finish_own(task, end)
        else:
            await self._shut_down(task)
            await self.finish(task, end)
        return end

    async def _finish_own(self, task: Task, end: Exit) -> None:
        """As `finish`, where nothing of the container is left: folders and row go while its shim ends."""
        removing = asyncio.ensure_future(self._remove(task))
        await self._shut_down(task)
        await removing
        self._gone(task, end)

    async def finish(self, task: Task, end: Exit) -> None:
        """The rest of a delete, after the shim: its binary's clean-up, the folders, the row."""
        await self._clean_up(task)
        await self._remove(task)
        self._gone(task, end)

    async def _remove(self, task: Task) -> None:
        await in_thread(task.bundle.remove)
        await self._store.note(rows.remove, task.namespace, task.id)

    def _gone(self, task: Task, end: Exit) -> None:
        self._registry.drop(task)
        task.settle(end)

    async def abandon(self, task: Task) -> None:
        """Undo a task that was not made to the end. Nobody was told of it, so no event tells of this."""
        if task.making is not None:
            with suppress(SupervisorError, TimeoutError, OSError):
                await asyncio.wait_for(task.making, MAKING_PATIENCE)
        if task.shim is not None:
            await self._end_shim(task)
        await self.finish(task, Exit(0, UNKNOWN_STATUS, instant.now()))

    async def lost(self, task: Task) -> None:
        """Clean up after a shim that died, and tell how its task ended as far as that can be known."""
        task.phase = Phase.LOST
        task.disconnect()
        end = await self._clean_up(task)
        await self._remove_socket(task)
        try:
            await in_thread(task.bundle.remove)
        except (SupervisorError, OSError) as error:
            log.error("the bundle of task %s/%s stays: %s", task.namespace, task.id, error)
        known = await self._store.write(rows.lost, task.namespace, task.id, end, SHIM_DIED)
        self._registry.drop(task)
        task.settle(known)

    async def _end_shim(self, task: Task) -> None:
        """Have a half-made task deleted and its shim exit; a shim that does not is killed."""
        limit = self._settings.timeouts.shim_cleanup
        pid = 0
        with suppress(SupervisorError):
            pid = (
                await task.call("Connect", pb.ConnectRequest(id=task.id), pb.ConnectResponse, limit)
            ).shim_pid
            await task.call("Delete", pb.DeleteRequest(id=task.id), pb.DeleteResponse, limit)
        gone = await self._shut_down(task)
        if not gone and pid > 1 and not self._registry.is_shared(task):
            log.warning("killing the shim of task %s/%s, process %d", task.namespace, task.id, pid)
            await in_thread(terminate_and_wait, pid)
            await self._remove_socket(task)

    async def _delete_in_shim(self, task: Task) -> Exit:
        try:
            answer = await task.call("Delete", pb.DeleteRequest(id=task.id), pb.DeleteResponse)
        except NotFound:
            return await self.recorded_exit(task)
        moment = Nanoseconds(answer.exited_at.seconds * SECOND + answer.exited_at.nanos)
        return Exit(answer.pid, answer.exit_status, moment)

    async def recorded_exit(self, task: Task) -> Exit:
        """How a task ended by the store; unknown when no exit came."""
        known = await self._store.read(exits.of, task.namespace, task.id, "")
        return known or Exit(0, UNKNOWN_STATUS, instant.now())

    async def _shut_down(self, task: Task) -> bool:
        """Have the shim exit and wait until it has; one that serves other tasks stays. Whether it did."""
        limit = self._settings.timeouts.shim_shutdown
        try:
            await task.call("Shutdown", pb.ShutdownRequest(id=task.id), Empty, limit)
            if task.shim is not None and not self._registry.is_shared(task):
                await asyncio.wait_for(asyncio.shield(task.shim.closed), limit)
        except ConnectionClosed:
            pass  # it exited before it could answer
        except (SupervisorError, TimeoutError) as error:
            log.warning("the shim of task %s/%s did not exit in time %s", task.namespace, task.id, error)
        gone = task.shim is None or task.shim.closed.done()
        task.disconnect()
        return gone

    async def _clean_up(self, task: Task) -> Exit:
        """Run the shim binary's `delete`; a bundle that was never made needs none."""
        if not task.bundle.path.is_dir():
            return Exit(0, UNKNOWN_STATUS, instant.now())
        try:
            end = await self._binaries.delete(task.binary, task.bundle)
        except SupervisorError as error:
            log.warning("clean-up of task %s/%s: %s", task.namespace, task.id, error)
            return Exit(0, UNKNOWN_STATUS, instant.now())
        finally:
            await in_thread(task.bundle.remove_cgroup)
        return end if end.exited_at > 0 else Exit(end.pid, end.status, instant.now())

    async def _remove_socket(self, task: Task) -> None:
        """A killed shim leaves its socket; nobody else would ever remove it."""
        if task.address is not None:
            await in_thread(remove_socket, Path(plain_path(task.address.address)))
