"""Making processes: what a child of the shim does for a Create, a restore, an exec, and undoes if it fails.

(containerd: runc/container.go `NewContainer`, process/init.go, process/exec.go.) All of it waits: for
mounts, for the runtime, for the client that has to open its fifos. The shim learns of it when it is
done; a container that nobody has been told of yet is a matter of this module alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from supervisor.errors import SupervisorError
from supervisor.kernel import oom
from supervisor.kernel.cgroup import Cgroup, cgroup_of
from supervisor.shimv2.runc import bundle as files
from supervisor.shimv2.runc import limits, log, options, rootfs
from supervisor.shimv2.runc.messages import mounts_in, options_in
from supervisor.shimv2.runc.options import Options
from supervisor.shimv2.runc.plumbing import Plumbing, plumbing_for
from supervisor.shimv2.runc.runtime import Runtime
from supervisor.shimv2.runc.wiring import PlainPaths, StdioPaths, Wiring

Make = Callable[[str, Mapping[int, int], str], None]
"""Have the runtime make a process; given the file for its pid, its streams, and its console's socket."""

Made = tuple[dict[str, Any], Iterable[int]]
"""What is told of what was made, as plain values, and the descriptors that go with it."""


Plain = tuple[str, str, str, bytes]
"""A Blueprint's fields, in which form it is sent to a child."""


class Blueprint(NamedTuple):
    """The container that something is made for, or in."""

    id: str
    bundle: str
    namespace: str
    encoded_options: bytes

    def options(self) -> Options:
        """What the client has chosen; raises InvalidArgument."""
        return options_in(self.encoded_options)

    def runtime(self) -> Runtime:
        """The container's runtime."""
        return Runtime(self.options(), self.namespace, self.bundle)


def create(plain: Plain, stdio: PlainPaths, encoded_mounts: Sequence[bytes], checkpoint: str) -> Made:
    """Mount the root and have the runtime create the container; a failure leaves nothing behind.

    From a `checkpoint` nothing is created before the start, which restores it.
    """
    wanted = Blueprint(*plain)
    options.save(wanted.options(), wanted.bundle)
    mounts = mounts_in(encoded_mounts)
    spec = files.read_spec(wanted.bundle)
    facts = {"private_pids": spec.private_pids, "poststop": spec.poststop, "drops": spec.drops}
    with ExitStack() as undo:
        rootfs.mount(mounts, wanted.bundle)
        if mounts:
            undo.callback(rootfs.unmount, wanted.bundle)
        if checkpoint:
            undo.pop_all()
            return facts, ()
        made, descriptors = _make_init(
            wanted, StdioPaths(*stdio), partial(wanted.runtime().create, wanted.id), undo
        )
        undo.pop_all()
    return facts | made, descriptors


def restore(plain: Plain, stdio: PlainPaths, checkpoint: str) -> Made:
    """Have the runtime make init from a dump, running at once."""
    wanted = Blueprint(*plain)
    with ExitStack() as undo:
        make = partial(wanted.runtime().restore, wanted.id, checkpoint)
        made = _make_init(wanted, StdioPaths(*stdio), make, undo)
        undo.pop_all()
    return made


def execute(plain: Plain, exec_id: str, stdio: PlainPaths, spec: bytes) -> Made:
    """Have the runtime start a further process in the container."""
    wanted = Blueprint(*plain)
    spec_file = files.exec_file(wanted.bundle, exec_id, "json")
    pid_file = files.exec_file(wanted.bundle, exec_id, "pid")
    with ExitStack() as undo:
        plumbing = _plumbing(wanted, StdioPaths(*stdio), exec_id)
        undo.callback(plumbing.close)
        with _released(plumbing, spec_file):
            _write_exec(exec_id, spec, spec_file)
            wanted.runtime().exec(
                wanted.id, spec_file, pid_file, plumbing.descriptors, plumbing.console_socket
            )
        pid = files.read_pid(pid_file)
        undo.callback(_kill, pid)
        wiring = plumbing.connect()
        undo.pop_all()
    return _told(pid, wiring)


def ask(plain: Plain, command: str, *arguments: Any) -> Any:
    """Have the runtime do something with the container: `command` is the name of a method of Runtime."""
    wanted = Blueprint(*plain)
    return getattr(wanted.runtime(), command)(wanted.id, *arguments)


def undo_create(plain: Plain) -> None:
    """Undo a create whose child was killed, wherever it was then."""
    wanted = Blueprint(*plain)
    end_commands(plain)
    _delete(wanted)
    rootfs.unmount(wanted.bundle)
    files.remove(f"{wanted.bundle}/{files.CREATING_FILE}")


def end_commands(plain: Plain) -> None:
    """Kill what a child that was killed has left running."""
    from supervisor.shimv2.runc import stray

    stray.end_commands(Blueprint(*plain).bundle)


def delete(plain: Plain) -> None:
    """Have the runtime forget the container, and take its root off."""
    wanted = Blueprint(*plain)
    wanted.runtime().delete(wanted.id)
    rootfs.unmount(wanted.bundle)


def _make_init(wanted: Blueprint, stdio: StdioPaths, make: Make, undo: ExitStack) -> Made:
    plumbing = _plumbing(wanted, stdio, wanted.id)
    undo.callback(plumbing.close)
    pid_file = f"{wanted.bundle}/{files.INIT_PID_FILE}"
    creating = f"{wanted.bundle}/{files.CREATING_FILE}"
    with _released(plumbing, creating):
        files.write_private(creating, b"")
        make(pid_file, plumbing.descriptors, plumbing.console_socket)
    undo.callback(_undo_init, wanted, pid_file)
    pid = files.read_pid(pid_file)
    cgroup, watch = _cgroup(pid, wanted.id)
    made, descriptors = _told(pid, plumbing.connect())
    return made | {"cgroup": cgroup, "watch": watch}, (*descriptors, *watch[:1])


def _told(pid: int, wiring: Wiring) -> Made:
    return {"pid": pid, "wiring": wiring.packed()}, tuple(wiring.descriptors())


def _cgroup(pid: int, container: str) -> tuple[dict[str, str], tuple[Any, ...]]:
    """Its folders, found while init has not run: later init may have moved itself. And a watch on it:
    a host that does not tell of want of memory is no reason to do without the container."""
    try:
        cgroup = cgroup_of(pid)
    except OSError as error:
        log.warning("the cgroup of container %s was not found: %s", container, error)
        return {}, ()
    try:
        return dict(cgroup.folders), oom.opened(Cgroup(cgroup.folders))
    except OSError as error:
        log.warning("kills for want of memory in %s will not be told: %s", container, error)
        return dict(cgroup.folders), ()


def _plumbing(wanted: Blueprint, stdio: StdioPaths, process_id: str) -> Plumbing:
    chosen = wanted.options()
    owner = (chosen.io_uid, chosen.io_gid)
    try:
        return plumbing_for(stdio, process_id, wanted.namespace, owner)
    except SupervisorError as error:
        raise type(error)(f"failed to create init process I/O: {error}") from error


@contextmanager
def _released(plumbing: Plumbing, file: str) -> Iterator[None]:
    """Around the runtime's command: afterwards what only it needed is let go of, a file among it."""
    try:
        yield
    finally:
        plumbing.release()
        files.remove(file)


def _undo_init(wanted: Blueprint, pid_file: str) -> None:
    with suppress(SupervisorError):
        _kill(files.read_pid(pid_file))
    _delete(wanted)


def _delete(wanted: Blueprint) -> None:
    try:
        with limits.within(limits.CLEANUP_SECONDS):
            wanted.runtime().delete(wanted.id, force=True)
    except SupervisorError as error:
        log.error("container %s, whose creation failed, could not be removed: %s", wanted.id, error)


def _kill(pid: int) -> None:
    # The shim may have reaped it a moment ago; numbers do not come round so fast.
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _write_exec(exec_id: str, spec: bytes, path: str) -> None:
    try:
        files.write_private(path, spec)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SupervisorError(f"write the process of exec {exec_id} to {path}: {reason}") from error
