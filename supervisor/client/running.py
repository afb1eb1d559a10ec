"""From an image to a running container, and back to nothing (containerd: client/container.go, pkg/oci).

A container is three things with one name: a snapshot, a record, a task. They are made in that order
and removed in the reverse one; each step of removal is harmless when there is nothing to remove.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.client import users
from supervisor.client.client import Client
from supervisor.client.containers import DEFAULT_RUNTIME, Container
from supervisor.client.images import Image
from supervisor.client.snapshots import DEFAULT_SNAPSHOTTER
from supervisor.client.stdio import remove_fifos
from supervisor.client.tasks import Exit, Process, Status
from supervisor.client.unpacking import Resolved, resolve, unpack
from supervisor.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from supervisor.model.any import SPEC_TYPE_URL, Any
from supervisor.model.identifiers import container_id
from supervisor.model.mount import Mount
from supervisor.oci import references, runtime
from supervisor.oci.runtime import Spec, SpecMount

STOP_SIGNAL_LABEL = "io.containerd.image.config.stop-signal"
# What a process ends in after SIGKILL, unless the kernel holds it; nothing helps then.
_KILL_SECONDS = 30.0
_HOST_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts")


@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """What to run. What is left empty is as the image says."""

    id: str
    image: str
    command: Sequence[str] = ()
    env: Sequence[str] = ()
    mounts: Sequence[SpecMount] = ()
    user: str = ""
    working_dir: str = ""
    terminal: bool = False
    host_network: bool = False
    read_only: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    snapshotter: str = DEFAULT_SNAPSHOTTER
    runtime: str = DEFAULT_RUNTIME
    runtime_options: Any | None = None


async def find_image(client: Client, name: str) -> Image:
    """The image that `name` means, as typed or in its full form; raises NotFound that tells near names."""
    for candidate in dict.fromkeys((name, references.normal(name))):
        with suppress(NotFound):
            return await client.images.get(candidate)
    known = [image.name for image in await client.images.list()]
    near = references.near(name, known)
    hint = f"did you mean {' or '.join(near)}?" if near else "import it first"
    full = references.normal(name)
    raise NotFound(f"there is no image {full} in namespace {client.namespace}; {hint}")


async def create_container(client: Client, options: ContainerOptions) -> Container:
    """Make snapshot and record of a container, unpacking its image if need be; raises AlreadyExists."""
    await _refuse_existing(client, container_id(options.id))
    image = await find_image(client, options.image)
    resolved = await resolve(client, image)
    async with client.leased() as leased:
        # Under the lease the unpacked layers cannot be collected between here and the record.
        parent = await unpack(leased, image, snapshotter=options.snapshotter)
        snapshots = leased.snapshots(options.snapshotter)
        mounts = await snapshots.prepare(options.id, parent)
        try:
            return await leased.containers.create(_record(client, options, image, resolved, mounts))
        except BaseException:
            await snapshots.remove(options.id)
            raise


async def container_mounts(client: Client, container: Container) -> tuple[Mount, ...]:
    """How the root of a container is mounted, for creating its task."""
    return await client.snapshots(container.snapshotter).mounts(container.snapshot_key)


def exec_process(
    container: Container,
    command: Sequence[str],
    *,
    env: Sequence[str] = (),
    terminal: bool = False,
    working_dir: str = "",
) -> Spec:
    """A process to add to a container: like its first one, but for what is given."""
    if not command:
        raise InvalidArgument(f"exec in {container.id}: say what to run")
    process = dict(spec_of(container).get("process") or {})
    process["args"] = list(command)
    process["terminal"] = terminal
    process["env"] = runtime.environment([*process.get("env", ()), *env], terminal=terminal)
    process["cwd"] = working_dir or process.get("cwd") or "/"
    return process


def spec_of(container: Container) -> Spec:
    """The OCI runtime spec of a container; raises FailedPrecondition when it cannot be read."""
    try:
        spec = json.loads(container.spec.value) if container.spec else None
    except ValueError:
        spec = None
    if not isinstance(spec, dict):
        raise FailedPrecondition(f"container {container.id} has no spec in JSON")
    return spec


async def stop(client: Client, name: str, *, timeout: float = 10.0, with_signal: int | None = None) -> Exit:
    """Ask the container's process to end, and kill it after `timeout` seconds; raises NotFound.

    The signal is what the image asks for, or SIGTERM.
    """
    container = await client.containers.get(name)
    task = client.tasks.of(name)
    await _signal(task, with_signal or _stop_signal(container))
    try:
        async with asyncio.timeout(timeout):
            return await task.wait()
    except TimeoutError:
        return await kill(client, name)


async def kill(client: Client, name: str) -> Exit:
    """Kill every process of the container; raises DeadlineExceeded when the kernel cannot end them."""
    task = client.tasks.of(name)
    await _signal(task, signal.SIGKILL, every=True)
    try:
        async with asyncio.timeout(_KILL_SECONDS):
            return await task.wait()
    except TimeoutError:
        raise DeadlineExceeded(
            f"kill {name}: it still runs {_KILL_SECONDS:.0f} seconds after SIGKILL"
        ) from None


async def remove(client: Client, name: str, *, force: bool = False) -> None:
    """Remove task, record and snapshot of a container; one that runs only with `force`. Raises NotFound."""
    container = await client.containers.get(name)
    with suppress(NotFound):
        await _remove_task(client, name, force)
    await client.containers.delete(name)
    if container.snapshot_key:
        with suppress(NotFound):
            await client.snapshots(container.snapshotter).remove(container.snapshot_key)


async def _remove_task(client: Client, name: str, force: bool) -> None:
    task = client.tasks.of(name)
    state = await task.state()
    if state.status not in (Status.STOPPED, Status.UNKNOWN):
        if not force:
            raise FailedPrecondition(
                f"remove {name}: it is {state.status.name.lower()}; stop it first, or force it"
            )
        await kill(client, name)
    await task.delete()
    # A client that was killed could not clean up behind itself.
    remove_fifos(state.streams)


async def _signal(process: Process, number: int, *, every: bool = False) -> None:
    with suppress(NotFound):  # it ended by itself: what was wanted
        await process.kill(number, every=every)


async def _refuse_existing(client: Client, name: str) -> None:
    with suppress(NotFound):
        await client.containers.get(name)
        raise AlreadyExists(f"container {name} is there already; remove it or choose another name")


def _record(
    client: Client, options: ContainerOptions, image: Image, resolved: Resolved, mounts: Sequence[Mount]
) -> Container:
    spec = _spec(client.namespace, options, resolved, mounts)
    stop_signal = {STOP_SIGNAL_LABEL: resolved.config.stop_signal} if resolved.config.stop_signal else {}
    return Container(
        id=options.id,
        image=image.name,
        runtime=options.runtime,
        runtime_options=options.runtime_options,
        spec=Any(SPEC_TYPE_URL, json.dumps(spec).encode()),
        snapshotter=options.snapshotter,
        snapshot_key=options.id,
        labels=stop_signal | dict(options.labels),
    )


def _spec(namespace: str, options: ContainerOptions, resolved: Resolved, mounts: Sequence[Mount]) -> Spec:
    config = resolved.config
    init = runtime.process(
        config.command(options.command),
        env=[*config.env, *options.env],
        cwd=options.working_dir or config.working_dir,
        user=users.resolve(options.user or config.user, mounts),
        terminal=options.terminal,
    )
    return runtime.default_spec(
        init,
        cgroups_path=f"/{namespace}/{options.id}",
        readonly_rootfs=options.read_only,
        hostname=options.id[:63],
        host_network=options.host_network,
        cgroup_namespace=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        mounts=[*(_host_files() if options.host_network else ()), *options.mounts],
    )


def _host_files() -> list[SpecMount]:
    """The host's resolver files, without which its network would know no names."""
    present = [path for path in _HOST_NETWORK_FILES if Path(path).exists()]
    return [SpecMount(path, path, "bind", ("rbind", "ro")) for path in present]


def _stop_signal(container: Container) -> int:
    return signal_number(container.labels.get(STOP_SIGNAL_LABEL, "SIGTERM"))


def signal_number(text: str) -> int:
    """The number of a signal given as number or name, with or without SIG; raises InvalidArgument."""
    if text.isascii() and text.isdigit() and 0 < int(text) <= signal.SIGRTMAX:
        return int(text)
    name = text.upper()
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise InvalidArgument(
            f"signal {text[:40]!r} is not known; give a name like SIGTERM or a number"
        ) from None
