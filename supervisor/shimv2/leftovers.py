"""What shims leave that died: processes that no store knows of, sockets at which nobody listens."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from supervisor.kernel.process import terminate_and_wait
from supervisor.kernel.sockets import is_listened_at
from supervisor.shimv2.bundle import Bundle

log = logging.getLogger(__name__)


def kill_starting(bundle: Bundle, grpc_address: str, keep: Collection[int]) -> None:
    """Kill the processes of a half-made task's shim, `start` and server alike, except those in `keep`.

    They are known by their command line, which names the daemon's socket, the namespace and the id.
    """
    for pid in _started_for(bundle, grpc_address):
        if pid not in keep:
            log.warning("killing process %d, a shim that %s was left with", pid, bundle.path)
            terminate_and_wait(pid)


def remove_socket(path: Path) -> None:
    """Remove the socket of a shim that is gone; one at which another shim listens meanwhile stays.

    A shim of a group takes the lock on the folder too while it looks whether somebody listens.
    """
    with suppress(FileNotFoundError):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if path.is_socket() and not is_listened_at(str(path)):
                path.unlink()
        finally:
            os.close(folder)


def _started_for(bundle: Bundle, grpc_address: str) -> Iterator[int]:
    wanted = (f" -namespace {bundle.namespace} ", f" -id {bundle.id} ", f" -address {grpc_address} ")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # A fork of the launcher has given itself a title, whose words are set apart by blanks.
            line = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue  # it ended meanwhile
        if all(words in f"{line} " for words in wanted):
            yield int(folder.name)
