"""One container: what the Task service asks, done with a runtime (containerd: runc/container.go).

A process's `operation` lock is held while the runtime works on its start, pause or delete; an exit
never takes it, so it never waits for a runtime.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial

from supervisor.errors import DeadlineExceeded, InvalidArgument, NotFound, SupervisorError
from supervisor.kernel.cgroup import Cgroup, cgroup_of
from supervisor.model.mount import Mount
from supervisor.shimv2.runc import bundle as files
from supervisor.shimv2.runc import happenings, limits, options, rootfs
from supervisor.shimv2.runc.iofactory import IOFactory
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.members import Members
from supervisor.shimv2.runc.memory import MemoryTeller
from supervisor.shimv2.runc.options import Options
from supervisor.shimv2.runc.process import NO_EXIT, Process, State, Verb
from supervisor.shimv2.runc.reaper import Exit, Reaper
from supervisor.shimv2.runc.runtime import Runtime
from supervisor.shimv2.runc.stdio import ProcessIO, StdioPaths

DRAIN_SECONDS = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the containers of one shim share."""

    namespace: str
    loop: Loop
    reaper: Reaper
    tell: happenings.Tell


class Container:
    """A container, from before its creation to its deletion. Methods may be called from any thread."""

    def __init__(
        self, container_id: str, bundle: str, stdio: StdioPaths, chosen: Options, around: Surroundings
    ) -> None:
        self.id = container_id
        self.bundle = bundle
        self.init = Process("", stdio)
        self.members = Members(container_id, self.init, around.tell)
        self._options = chosen
        self._around = around
        self._runtime = Runtime(chosen, around.namespace, bundle, around.reaper)
        owner = (chosen.io_uid, chosen.io_gid)
        self._io = IOFactory(around.loop, around.reaper, around.namespace, owner)
        self._private_pids = True
        self._checkpoint = ""
        self._cgroup: Cgroup | None = None
        self._memory = MemoryTeller(container_id, around.loop, around.tell)

    def create(self, mounts: Sequence[Mount], register: Callable[[], None], checkpoint: str = "") -> None:
        """Mount the root, have the runtime create the container, connect its streams.

        `register` is called when it exists, before its end can be told. A failure leaves nothing behind.
        From a `checkpoint` nothing is created before the start, which restores it.
        """
        self._checkpoint = checkpoint
        options.save(self._options, self.bundle)
        spec = files.read_spec(self.bundle)
        self._private_pids = spec.private_pids
        self._io = replace(self._io, drops=spec.drops)
        with ExitStack() as undo, self._around.reaper.expecting():
            rootfs.mount(mounts, self.bundle)
            if mounts:
                undo.callback(rootfs.unmount, self.bundle)
            if not checkpoint:
                self._create_init(undo)
            undo.pop_all()
            register()
            self._around.tell(
                happenings.Created(
                    self.id, self.bundle, tuple(mounts), self.init.stdio, self.init.pid, checkpoint
                )
            )
            if not checkpoint:
                self._adopt(self.init)

    def start(self) -> None:
        """Let init go."""
        with self.init.operation:
            if self._checkpoint:
                self._restore()
                return
            with self.members.starting(self.init):
                self._runtime.start(self.id)
                self._running(self.init, happenings.Started(self.id, self.init.pid))

    def _restore(self) -> None:
        with self._around.reaper.expecting():
            with self.members.starting(self.init):
                restore = partial(self._runtime.restore, self.id, self._checkpoint)
                with ExitStack() as undo:
                    self._make_init(restore, undo)
                    undo.pop_all()
                self._running(self.init, happenings.Started(self.id, self.init.pid))
            self._adopt(self.init)

    def checkpoint(self, path: str, flags: Sequence[str]) -> None:
        """Dump the container into a folder; raises FailedPrecondition where the machine cannot."""
        from supervisor.shimv2.runc.checkpoint import checkpoint

        with self.init.operation:
            self._check(Verb.CHECKPOINT)
            checkpoint(self._runtime, self.id, self.bundle, path, flags)

    def add_exec(self, exec_id: str, stdio: StdioPaths, spec: bytes) -> None:
        """Take in a further process, given as JSON of the OCI spec's Process; it is not started yet."""
        if self._checkpoint and self.init.state is State.CREATED:
            raise SupervisorError("cannot exec in a created state")
        self.members.add(Process(exec_id, stdio, _with_terminal(spec, stdio.terminal)))
        self._around.tell(happenings.ExecAdded(self.id, exec_id))

    def start_exec(self, process: Process) -> None:
        """Have the runtime start a further process."""
        with process.operation, self._around.reaper.expecting():
            with self.members.starting(process):
                self._run_exec(process)
                self._running(process, happenings.ExecStarted(self.id, process.exec_id, process.pid))
            self._adopt(process)

    def kill(self, process: Process, signal_number: int, *, everything: bool) -> None:
        """Send a signal; with `everything`, to all processes. Raises NotFound for what is gone already."""
        with self.members.lock:
            process.check(Verb.KILL)
        if process is not self.init:
            self._kill_exec(process, signal_number)
        elif self.init.reaped is not None and not everything:
            raise NotFound("process already finished")
        else:
            self._kill_init(signal_number, everything=everything)

    def pause(self) -> None:
        """Freeze the container."""
        with self.init.operation:
            self._check(Verb.PAUSE)
            self.members.move(self.init, State.RUNNING, State.PAUSING)
            try:
                self._runtime.pause(self.id)
            except SupervisorError:
                self.members.move(self.init, State.PAUSING, State.RUNNING)
                raise
            self.members.move(self.init, State.PAUSING, State.PAUSED)
        self._around.tell(happenings.Paused(self.id))

    def resume(self) -> None:
        """Thaw the container."""
        with self.init.operation:
            self._check(Verb.RESUME)
            self._runtime.resume(self.id)
            self.members.move(self.init, State.PAUSED, State.RUNNING)
        self._around.tell(happenings.Resumed(self.id))

    def update(self, resources: bytes) -> None:
        """Change resource limits, given as JSON of the OCI spec's LinuxResources."""
        with self.init.operation:
            self._check(Verb.UPDATE)
            self._runtime.update(self.id, resources)

    def pids(self) -> dict[int, str]:
        """Host pids of every process in the container, each with its exec id or an empty one."""
        if self.init.reaped is not None:
            return {}
        execs = self.members.exec_ids_by_pid()
        return {pid: execs.get(pid, "") for pid in self._runtime.pids(self.id)}

    def cgroup(self) -> Cgroup:
        """Where the kernel counts what the container uses; raises NotFound when it counts no longer."""
        if self._cgroup is None or self.init.reaped is not None:
            raise NotFound("cgroup does not exist")
        return self._cgroup

    def resize(self, process: Process, width: int, height: int) -> None:
        """Set the size of a process's terminal; without one nothing happens."""
        with self.members.lock:
            process.check(Verb.RESIZE)
        process.io.resize(width, height)

    def delete(self, forget: Callable[[], None]) -> Exit:
        """Remove the container: let the output run out, runtime delete, unmount; `forget` before it is told.

        Answers how init ended, which for one that was never started is not at all.
        """
        with self.init.operation:
            self._check(Verb.DELETE)
            exit_ = self._delete_from_runtime()
            for process in (self.init, *self.members.execs()):
                process.io.close()
            rootfs.unmount(self.bundle)
            with self.members.lock:
                self.init.state = State.DELETED
            forget()
        self._around.tell(happenings.Deleted(self.id, self.init.pid, exit_))
        return exit_

    def delete_exec(self, process: Process) -> None:
        """Forget a further process that has ended, or was never started. Nobody is told."""
        with process.operation:
            with self.members.lock:
                process.check(Verb.DELETE)
            if process.state is State.STOPPED:
                self._drain(process)
            process.io.close()
            files.remove(files.exec_file(self.bundle, process.exec_id, "pid"))
            self.members.remove(process)

    def _delete_from_runtime(self) -> Exit:
        self._memory.end()
        if self.init.state is State.CREATED:
            self.members.forget_init(partial(self._runtime.delete, self.id))
            self._drain(self.init)
            return NO_EXIT
        self._drain(self.init)
        self._runtime.delete(self.id)
        return self.init.exit

    def _check(self, verb: Verb) -> None:
        with self.members.lock:
            self.init.check(verb)

    def _create_init(self, undo: ExitStack) -> None:
        self._make_init(partial(self._runtime.create, self.id), undo)

    def _make_init(self, make: Callable[[str, Mapping[int, int], str], None], undo: ExitStack) -> None:
        """Have the runtime make init, by `make` of pid file, streams and console, and connect it."""
        io = self._make_io(self.init.stdio, self.id)
        undo.callback(io.close)
        pid_file = f"{self.bundle}/{files.INIT_PID_FILE}"
        creating = f"{self.bundle}/{files.CREATING_FILE}"
        try:
            files.write_private(creating, b"")
            make(pid_file, io.descriptors, io.console_socket)
        finally:
            io.release()
            files.remove(creating)
        undo.callback(self._undo_create)
        self.init.pid = files.read_pid(pid_file)
        self._find_cgroup(undo)
        io.begin()
        self.init.io = io

    def _find_cgroup(self, undo: ExitStack) -> None:
        """Remember it while init has not run: later init may have moved itself."""
        try:
            self._cgroup = cgroup_of(self.init.pid)
        except OSError as error:
            log.warning("the cgroup of container %s was not found: %s", self.id, error)
            return
        self._memory.begin(self._cgroup)
        undo.callback(self._memory.end)

    def _undo_create(self) -> None:
        if self.init.pid:
            self._undo_process(self.init.pid)
        try:
            with limits.within(limits.CLEANUP_SECONDS):
                self._runtime.delete(self.id, force=True)
        except SupervisorError as error:
            log.error("container %s, whose creation failed, could not be removed: %s", self.id, error)

    def _make_io(self, stdio: StdioPaths, process_id: str) -> ProcessIO:
        try:
            return self._io.make(stdio, process_id)
        except SupervisorError as error:
            raise type(error)(f"failed to create init process I/O: {error}") from error

    def _run_exec(self, process: Process) -> None:
        spec_file = files.exec_file(self.bundle, process.exec_id, "json")
        pid_file = files.exec_file(self.bundle, process.exec_id, "pid")
        with ExitStack() as undo:
            io = self._make_io(process.stdio, process.exec_id)
            undo.callback(io.close)
            try:
                _write_exec(process, spec_file)
                self._runtime.exec(self.id, spec_file, pid_file, io.descriptors, io.console_socket)
            finally:
                io.release()
                files.remove(spec_file)
            process.pid = files.read_pid(pid_file)
            undo.callback(self._undo_process, process.pid)
            io.begin()
            process.io = io
            undo.pop_all()

    def _undo_process(self, pid: int) -> None:
        self._around.reaper.claim(pid, _nobody_asks)
        self._around.reaper.kill(pid, signal.SIGKILL)

    def _running(self, process: Process, told: happenings.Happening) -> None:
        with self.members.lock:
            process.state = State.RUNNING
            self._around.tell(told)

    def _adopt(self, process: Process) -> None:
        """Have the end of a process that the runtime left to us told; within `expecting`."""
        self._around.reaper.claim(process.pid, partial(self._ended, process))

    def _ended(self, process: Process, exit_: Exit) -> None:
        self._around.loop.call(process.io.process_ended)
        self._memory.look()
        self.members.reaped(process, exit_)
        if process is self.init and self._must_clear():
            threading.Thread(target=self._clear_and_record, name="exit", daemon=True).start()
        else:
            self.members.record(process)

    def _must_clear(self) -> bool:
        """Whether the end of init leaves something to the runtime: processes that live on, or a freezer."""
        return not self._private_pids or self.init.state in (State.PAUSING, State.PAUSED)

    def _clear_and_record(self) -> None:
        if self.init.state in (State.PAUSING, State.PAUSED):
            self._attempt(partial(self._runtime.resume, self.id))
        if not self._private_pids:
            self._attempt(partial(self._runtime.kill, self.id, signal.SIGKILL, everything=True))
        self.members.record(self.init)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            with suppress(NotFound), limits.within(limits.CLEANUP_SECONDS):
                action()
        except SupervisorError as error:
            log.warning("after the end of init of container %s: %s", self.id, error)

    def _kill_init(self, signal_number: int, *, everything: bool) -> None:
        try:
            self._runtime.kill(self.id, signal_number, everything=everything)
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

    def _drain(self, process: Process) -> None:
        if not process.io.drained(DRAIN_SECONDS):
            log.warning("output of %s was not read to its end, the rest is lost", process.exec_id or self.id)


def _nobody_asks(_exit: Exit) -> None:
    """For the end of a process whose start was undone."""


def _write_exec(process: Process, path: str) -> None:
    try:
        files.write_private(path, process.spec)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SupervisorError(f"write the process of exec {process.exec_id} to {path}: {reason}") from error


def _with_terminal(spec: bytes, terminal: bool) -> bytes:
    """The process with the request's terminal flag, which goes before its own."""
    try:
        process = json.loads(spec)
    except ValueError as error:
        raise InvalidArgument(f"the spec of the exec is no JSON: {error}") from error
    if not isinstance(process, dict):
        raise InvalidArgument("the spec of the exec is no JSON object")
    return json.dumps({**process, "terminal": terminal}).encode()
