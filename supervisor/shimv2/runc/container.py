"""One container: what the Task service asks, done with a runtime (containerd: runc/container.go).

Here are the states and their order; whatever waits for the runtime is done in children (`forks`). A
process's `operation` is taken while the runtime works on its start, pause or delete; an exit never takes
it, so it never waits for a runtime. A `limit` is what the runtime may take, in seconds.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from supervisor.errors import DeadlineExceeded, InvalidArgument, NotFound, SupervisorError, Unavailable
from supervisor.kernel.cgroup import Cgroup
from supervisor.kernel.oom import OomWatch
from supervisor.shimv2.runc import bundle as files
from supervisor.shimv2.runc import happenings, limits, log, making
from supervisor.shimv2.runc.forks import Forks, Handed
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.members import Members
from supervisor.shimv2.runc.memory import MemoryTeller
from supervisor.shimv2.runc.process import NO_EXIT, Process, State, Verb
from supervisor.shimv2.runc.reaper import Exit, Reaper
from supervisor.shimv2.runc.stdio import io_for
from supervisor.shimv2.runc.wiring import StdioPaths, Wiring
from supervisor.ttrpc.promise import Promise, begin

DRAIN_SECONDS = 10.0

Limit = float | None


class Surroundings:
    """What the containers of one shim share. The namespace is known when it begins to serve."""

    def __init__(self, loop: Loop, reaper: Reaper, forks: Forks, tell: happenings.Tell) -> None:
        self.loop = loop
        self.reaper = reaper
        self.forks = forks
        self.tell = tell
        self.namespace = ""


class Container:
    """A container, from before its creation to its deletion."""

    def __init__(
        self, container_id: str, bundle: str, stdio: StdioPaths, options: bytes, around: Surroundings
    ) -> None:
        self.id = container_id
        self.bundle = bundle
        self.init = Process("", stdio)
        self.members = Members(container_id, self.init, around.tell)
        self._around = around
        self._plain = (container_id, bundle, around.namespace, options)
        self._private_pids = True
        self._poststop = False
        self._removal: Promise[bool] | None = None
        self._drops = False
        self._checkpoint = ""
        self._cgroup: Cgroup | None = None
        self._memory = MemoryTeller(container_id, around.loop, around.tell)

    async def create(
        self, mounts: Sequence[bytes], register: dict[str, Container], checkpoint: str, limit: Limit
    ) -> None:
        """Mount the root, have the runtime create the container, connect its streams.

        It is in the `register` as soon as it exists, before its end can be told. A failure leaves nothing.
        From a `checkpoint` nothing is created before the start, which restores it.
        """
        self._checkpoint = checkpoint
        with self._around.reaper.expecting:
            wanted = (self._plain, self.init.stdio.packed(), mounts, checkpoint)
            made, handed = await self._open(limit, making.undo_create, making.create, *wanted)
            self._private_pids, self._poststop = made["private_pids"], made["poststop"]
            self._drops = made["drops"]
            if not checkpoint:
                self._take_init(made, handed)
            register[self.id] = self
            self._around.tell(
                happenings.Created(self.id, self.bundle, mounts, self.init.stdio, self.init.pid, checkpoint)
            )
            if not checkpoint:
                self._adopt(self.init)

    async def start(self, limit: Limit) -> None:
        """Let init go."""
        async with self.init.operation:
            if self._checkpoint:
                await self._restore(limit)
                return
            with self.members.starting(self.init):
                await self._ask(limit, "start")
                self._init_started()

    async def checkpoint(self, path: str, options: bytes, limit: Limit) -> None:
        """Dump the container into a folder; raises FailedPrecondition where the machine cannot."""
        from supervisor.shimv2.runc.checkpoint import checkpoint

        async with self.init.operation:
            self.init.check(Verb.CHECKPOINT)
            await self._run(limit, checkpoint, self._plain, path, options)

    def add_exec(self, exec_id: str, stdio: StdioPaths, spec: bytes) -> None:
        """Take in a further process, given as JSON of the OCI spec's Process; it is not started yet."""
        if self._checkpoint and self.init.state is State.CREATED:
            raise SupervisorError("cannot exec in a created state")
        self.members.add(Process(exec_id, stdio, _with_terminal(spec, stdio.terminal)))
        self._around.tell(happenings.ExecAdded(self.id, exec_id))

    async def start_exec(self, process: Process, limit: Limit) -> None:
        """Have the runtime start a further process."""
        async with process.operation:
            with self._around.reaper.expecting:
                with self.members.starting(process):
                    wanted = (self._plain, process.exec_id, process.stdio.packed(), process.spec)
                    made, handed = await self._open(limit, making.end_commands, making.execute, *wanted)
                    self._take(process, made, handed)
                    started = happenings.ExecStarted(self.id, process.exec_id, process.pid)
                    self._running(process, started)
                self._adopt(process)

    async def kill(self, process: Process, signal_number: int, limit: Limit, *, everything: bool) -> None:
        """Send a signal; with `everything`, to all processes. Raises NotFound for what is gone already."""
        process.check(Verb.KILL)
        if process is not self.init:
            self._kill_exec(process, signal_number)
        elif self.init.reaped is not None and not everything:
            raise NotFound("process already finished")
        elif self._removal is None:  # otherwise no process is left, which is no error to who means all
            await self._kill_init(signal_number, limit, everything=everything)

    async def pause(self, limit: Limit) -> None:
        """Freeze the container."""
        async with self.init.operation:
            self.init.check(Verb.PAUSE)
            self.members.move(self.init, State.RUNNING, State.PAUSING)
            try:
                await self._ask(limit, "pause")
            except SupervisorError:
                self.members.move(self.init, State.PAUSING, State.RUNNING)
                raise
            self.members.move(self.init, State.PAUSING, State.PAUSED)
        self._around.tell(happenings.Paused(self.id))

    async def resume(self, limit: Limit) -> None:
        """Thaw the container."""
        async with self.init.operation:
            self.init.check(Verb.RESUME)
            await self._ask(limit, "resume")
            self.members.move(self.init, State.PAUSED, State.RUNNING)
        self._around.tell(happenings.Resumed(self.id))

    async def update(self, resources: bytes, limit: Limit) -> None:
        """Change resource limits, given as JSON of the OCI spec's LinuxResources."""
        async with self.init.operation:
            self.init.check(Verb.UPDATE)
            await self._ask(limit, "update", resources)

    async def pids(self, limit: Limit) -> dict[int, str]:
        """Host pids of every process in the container, each with its exec id or an empty one."""
        if self.init.reaped is not None:
            return {}
        execs = self.members.exec_ids_by_pid()
        pids = await self._ask(limit, "pids")
        return {pid: execs.get(pid, "") for pid in pids}

    async def stats(self) -> bytes:
        """What the container uses, as an encoded Any; raises NotFound when nothing is counted any longer."""
        from supervisor.shimv2.runc.metrics import metrics_of

        if self._cgroup is None or self.init.reaped is not None:
            raise NotFound("cgroup does not exist")
        encoded: bytes = await self._run(None, metrics_of, self._cgroup.folders, self.init.pid)
        return encoded

    def resize(self, process: Process, width: int, height: int) -> None:
        """Set the size of a process's terminal; without one nothing happens."""
        process.check(Verb.RESIZE)
        process.io.resize(width, height)

    async def delete(self, forget: Callable[[], None], limit: Limit) -> Exit:
        """Remove the container: let the output run out, runtime delete, unmount; `forget` before it is told.

        Answers how init ended, which for one that was never started is not at all.
        """
        async with self.init.operation:
            self.init.check(Verb.DELETE)
            exit_ = await self._delete_from_runtime(limit)
            processes = (self.init, *self.members.execs())
            for process in processes:
                process.io.close()
            for process in processes:
                await process.io.ended()
            self.init.state = State.DELETED
            forget()
        self._around.tell(happenings.Deleted(self.id, self.init.pid, exit_))
        return exit_

    async def delete_exec(self, process: Process) -> None:
        """Forget a further process that has ended, or was never started. Nobody is told."""
        async with process.operation:
            process.check(Verb.DELETE)
            if process.state is State.STOPPED:
                await self._drain(process)
            process.io.close()
            await process.io.ended()
            files.remove(files.exec_file(self.bundle, process.exec_id, "pid"))
            self.members.remove(process)

    async def _ask(self, limit: Limit, command: str, *arguments: Any) -> Any:
        """Have the runtime do something: a method of Runtime."""
        return await self._run(limit, making.ask, self._plain, command, *arguments)

    async def _run(self, limit: Limit, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await self._around.forks.run(function, *arguments, limit=limit)
        except Unavailable:
            await self._undo(making.end_commands)
            raise

    async def _open(
        self,
        limit: Limit,
        undo: Callable[[making.Plain], None],
        make: Callable[..., making.Made],
        *arguments: Any,
    ) -> tuple[Mapping[str, Any], Handed]:
        try:
            return await self._around.forks.open(make, *arguments, limit=limit)
        except Unavailable:
            await self._undo(undo)
            raise

    async def _undo(self, undo: Callable[[making.Plain], None]) -> None:
        """After a child that was killed, and could undo nothing itself."""
        with suppress(SupervisorError):
            await self._around.forks.run(undo, self._plain, limit=limits.CLEANUP_SECONDS)

    async def _restore(self, limit: Limit) -> None:
        with self._around.reaper.expecting:
            with self.members.starting(self.init):
                wanted = (self._plain, self.init.stdio.packed(), self._checkpoint)
                self._take_init(*await self._open(limit, making.end_commands, making.restore, *wanted))
                self._init_started()
            self._adopt(self.init)

    async def _delete_from_runtime(self, limit: Limit) -> Exit:
        self._memory.end()
        delete = partial(self._run, limit, making.delete, self._plain)
        if self.init.state is State.CREATED:
            with self.members.forgetting_init():
                await delete()
            await self._drain(self.init)
            return NO_EXIT
        await self._drain(self.init)
        if not await self._removed_ahead(limit):
            await delete()
        return self.init.exit

    def _take_init(self, made: Mapping[str, Any], handed: Handed) -> None:
        self._take(self.init, made, handed)
        self._cgroup = Cgroup(made["cgroup"])
        if made["watch"]:
            descriptor, figures = made["watch"]
            self._memory.watch = OomWatch(self._cgroup, handed[descriptor], figures)

    def _take(self, process: Process, made: Mapping[str, Any], handed: Handed) -> None:
        """Take over what a child has made of a process."""
        process.pid = made["pid"]
        wiring = Wiring(*made["wiring"]).renumbered(handed)
        around = self._around
        process.io = io_for(wiring, around.loop, around.reaper, around.forks, drops=self._drops)

    def _running(self, process: Process, told: happenings.Happening) -> None:
        process.state = State.RUNNING
        self._around.tell(told)

    def _init_started(self) -> None:
        """Tell of init's start, and from now on of what befell it; nothing is read of one that lives."""
        self._running(self.init, happenings.Started(self.id, self.init.pid))
        self._memory.begin()
        if self.init.reaped is not None:
            self._memory.look()

    def _adopt(self, process: Process) -> None:
        """Have the end of a process that the runtime left to us told; within `expecting`."""
        self._around.reaper.claim(process.pid, partial(self._ended, process))

    def _ended(self, process: Process, exit_: Exit) -> None:
        process.io.process_ended()
        if not self.init.starting:  # when its start has been told
            self._memory.look()
        self.members.reaped(process, exit_)
        if process is self.init and self._must_clear():
            begin(self._clear_and_record())
            return
        self.members.record(process)
        if process is self.init:
            begin(self._remove())

    async def _remove(self) -> None:
        """Remove what has ended: most clients delete it next, and then need not wait.

        Not where that would run hooks, whose time is the deletion. If it fails, the deletion does it again.
        """
        if self._poststop:
            self._around.forks.expect()
            return
        await self.init.exited  # execs that ended with it come first
        async with self.init.operation:  # a checkpoint that ended init may be under way
            if self.init.state is State.STOPPED:
                self._removal = begin(self._remove_ahead())

    async def _remove_ahead(self) -> bool:
        try:
            await self._run(limits.CLEANUP_SECONDS, making.delete, self._plain)
        except (SupervisorError, OSError) as error:
            log.info("container %s is removed when it is deleted: %s", self.id, error)
            return False
        finally:
            self._around.forks.close()
        return True

    async def _removed_ahead(self, limit: Limit) -> bool:
        """Whether the container is removed already, once that is known; raises DeadlineExceeded."""
        if self._removal is None:
            return False
        if limit is not None and not await self._around.loop.settled(self._removal, limit):
            raise DeadlineExceeded(
                "failed to delete task: the runtime's delete did not end in the time given"
            )
        return await self._removal

    def _must_clear(self) -> bool:
        """Whether the end of init leaves something to the runtime: processes that live on, or a freezer."""
        return not self._private_pids or self.init.state in (State.PAUSING, State.PAUSED)

    async def _clear_and_record(self) -> None:
        if self.init.state in (State.PAUSING, State.PAUSED):
            await self._attempt("resume")
        if not self._private_pids:
            await self._attempt("kill", signal.SIGKILL.value, True)
        self.members.record(self.init)

    async def _attempt(self, command: str, *arguments: Any) -> None:
        try:
            with suppress(NotFound):
                await self._ask(limits.CLEANUP_SECONDS, command, *arguments)
        except SupervisorError as error:
            log.warning("after the end of init of container %s: %s", self.id, error)

    async def _kill_init(self, signal_number: int, limit: Limit, *, everything: bool) -> None:
        try:
            await self._ask(limit, "kill", signal_number, everything)
        except DeadlineExceeded:
            # A runtime that hangs is no reason why a container should not come to its end.
            if signal_number != signal.SIGKILL or not self._around.reaper.kill(self.init.pid, signal_number):
                raise

    def _kill_exec(self, process: Process, signal_number: int) -> None:
        try:
            alive = self._around.reaper.kill(process.pid, signal_number)
        except OSError as error:
            text = f"signal {signal_number} to exec {process.exec_id}: {error.strerror}"
            raise InvalidArgument(text) from error
        if not alive:
            raise NotFound("process already finished")

    async def _drain(self, process: Process) -> None:
        if not await process.io.drained(DRAIN_SECONDS):
            log.warning("output of %s was not read to its end, the rest is lost", process.exec_id or self.id)


def _with_terminal(spec: bytes, terminal: bool) -> bytes:
    """The process with the request's terminal flag, which goes before its own."""
    try:
        process = json.loads(spec)
    except ValueError as error:
        raise InvalidArgument(f"the spec of the exec is no JSON: {error}") from error
    if not isinstance(process, dict):
        raise InvalidArgument("the spec of the exec is no JSON object")
    return json.dumps({**process, "terminal": terminal}).encode()
