"""Containers that run while the store knows nothing of them, or something else: their rows are made again.

The bundle says all that is needed: whose shim it is and where that listens (`bootstrap.json`,
`shim-binary-path`), and what the container is (`config.json`). A row that another life of the same name
left in a backup is replaced: by it the daemon would undo a half-made task, or clean up after a shim that
died, and a container that runs would end. A bundle at whose shim nobody listens is left alone.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from supervisor.errors import AlreadyExists, SupervisorError
from supervisor.kernel.sockets import is_listened_at
from supervisor.metadata import containers, tasks
from supervisor.metadata.database import Database, Transaction
from supervisor.model import instant
from supervisor.model.any import Any
from supervisor.model.container import Container, Runtime
from supervisor.model.identifiers import container_id, namespace
from supervisor.model.task import ShimRecord, Stdio, TaskRecord, TaskState
from supervisor.shimv2.bootstrap import parse_answer
from supervisor.shimv2.naming import OWN_BINARY
from supervisor.ttrpc.peer import plain_path

RECOVERED_LABEL = "container-supervisor/recovered"
"""Since when a container's record is one that was made from its bundle, without image and snapshot."""

_SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"

log = logging.getLogger(__name__)


def take_up(database: Database, bundles: Path) -> None:
    """Make rows for every container whose shim listens; the usual start then takes it over."""
    known = {(task.namespace, task.id): task for task in database.read(tasks.find_all)}
    for bundle in sorted(bundles.glob("*/*")):
        if bundle.name.startswith("."):
            continue
        try:
            found = _task(bundle)
        except (OSError, SupervisorError) as error:
            log.error("bundle %s cannot be taken up: %s; a container may run there", bundle, error)
            continue
        if found is None:
            log.warning("bundle %s: no shim listens there", bundle)
        elif not _is_right(known.get((found.namespace, found.id)), found):
            _take_up(database, bundle, found)


def _task(bundle: Path) -> TaskRecord | None:
    """The task of a bundle, None when its shim is gone; raises OSError, SupervisorError."""
    shim = parse_answer((bundle / "bootstrap.json").read_bytes())
    if not is_listened_at(plain_path(shim.address)):
        return None
    binary = (bundle / "shim-binary-path").read_text()
    return TaskRecord(
        namespace=namespace(bundle.parent.name),
        id=container_id(bundle.name),
        state=TaskState.RUNNING,
        bundle=str(bundle),
        runtime=_runtime_of(Path(binary)),
        shim=ShimRecord(binary, shim.address, shim.version, shim.protocol),
        stdio=Stdio(),
        pid=_pid(bundle),
    )


def _is_right(known: TaskRecord | None, found: TaskRecord) -> bool:
    half = (TaskState.CREATING, TaskState.DELETING)
    return known is not None and known.shim == found.shim and known.state not in half


def _take_up(database: Database, bundle: Path, task: TaskRecord) -> None:
    container = Container(
        id=task.id,
        runtime=Runtime(task.runtime),
        spec=Any(_SPEC, (bundle / "config.json").read_bytes()),
        labels={RECOVERED_LABEL: instant.format_rfc3339(instant.now())},
    )

    def write(tx: Transaction) -> bool:
        tasks.replace(tx, task)
        with suppress(AlreadyExists):
            containers.create(tx, task.namespace, container)
            return True
        return False

    made = database.write(write)
    told = "it and its container have" if made else "it has"
    log.warning("task %s/%s runs and was not known; %s a row again", task.namespace, task.id, told)


def _runtime_of(binary: Path) -> str:
    """The name by which clients ask for a shim binary (contract 2.1, read backwards)."""
    if binary.name == OWN_BINARY:
        return "io.containerd.oci.v2"
    prefix, _, name = binary.name.partition("containerd-shim-")
    return str(binary) if prefix or not name else f"io.containerd.{name.replace('-', '.')}"


def _pid(bundle: Path) -> int:
    with suppress(OSError, ValueError):
        return int((bundle / "init.pid").read_text())
    return 0
