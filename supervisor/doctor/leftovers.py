"""What former tasks left: bundles, shims, mounts, runtimes' state. Only told of; the daemon clears up.

Tasks come and go while this looks, so what seems left must still seem so a moment later.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from functools import partial
from pathlib import Path

from supervisor.doctor import tree
from supervisor.doctor.finding import Check, Finding, note, ok, some, warning
from supervisor.doctor.place import Place
from supervisor.doctor.processes import PROC, command_of, listeners, pids, sockets_of
from supervisor.errors import SupervisorError
from supervisor.kernel.mountinfo import parse_line
from supervisor.kernel.sockets import is_listened_at
from supervisor.shimv2.bootstrap import UNIX, parse_answer

_THEME = "leftovers"
_SECONDS = 20.0
_PATIENCE = 2.0
_MOMENT = 1.0

_BUNDLES = "remove it yourself, when nothing is mounted in it and no shim has it as its folder"
_SHIMS = (
    "sctr rm --force ID, while the daemon knows the task; else delete the container from the runtime's"
    " state, then kill the shim"
)
_MOUNTS = "umount them; `fuser -m` tells who keeps one busy"
_ELSEWHERE = "end or restart the process: while it holds the mount, its folder cannot be removed"
_STATE = "runc --root STATE/runtime/NAMESPACE delete --force ID"

Known = tuple[str, str]
"""A namespace and an id in it."""


def checks(place: Place) -> list[Check]:
    """Each has to see everything in the state folder, which only root can."""
    if os.geteuid():
        return [Check(_THEME, "all", partial(_unseen, place))]
    return [
        Check(_THEME, name, partial(left, place, look, advice), seconds=_SECONDS)
        for name, look, advice in (
            ("bundles", bundles, _BUNDLES),
            ("shims", shims, _SHIMS),
            ("mounts", mounts, _MOUNTS),
            ("mounts elsewhere", mounts_elsewhere, _ELSEWHERE),
            ("runtimes' state", runtime_state, _STATE),
        )
    ]


def _unseen(place: Place) -> Finding | None:
    if tree.status(place.state) is None:
        return None
    return note(f"only root can see what is left in {place.state}", "run this as root to have it looked at")


def left(place: Place, look: Callable[[Place], set[str]], advice: str, moment: float = _MOMENT) -> Finding:
    """What `look` sees twice. Without a daemon it may yet be cleared up: then it is a note."""
    seen = look(place)
    if seen:
        time.sleep(moment)
        seen &= look(place)
    if not seen:
        return ok("nothing left")
    told = f"{len(seen)} left: {some(sorted(seen))}"
    if place.daemon() is None:
        return note(told, f"the next start of the daemon may clear them up; if not: {advice}")
    return warning(told, advice)


def bundles(place: Place) -> set[str]:
    """Folders of tasks that are none."""
    known = tasks(place)
    return {str(path) for path in _bundles(place) if (path.parent.name, path.name) not in known}


def shims(place: Place) -> set[str]:
    """Shims of this daemon whose bundles were removed under them: none of those that are there names them."""
    named = {address for path in _bundles(place) if (address := _address(path))}
    heard = listeners()
    found = set()
    for pid in pids():
        command = command_of(pid)
        if f" -address {place.address} " not in f" {command} " or " -namespace " not in command:
            continue
        own = {heard[inode] for inode in sockets_of(pid) if inode in heard}
        if own and not own & named:
            found.add(f"process {pid} ({command})")
    return found


def mounts(place: Place) -> set[str]:
    """Mounts in bundles of tasks that are none, and those of layers that were being unpacked."""
    known = tasks(place)
    return {point for point in _mounts_of("self", place) if _is_stray(Path(point), place, known)}


def mounts_elsewhere(place: Place) -> set[str]:
    """Such mounts that are seen in another mount namespace only, with a process that is in it.

    Somebody copied all mounts into a namespace of his own while a container ran, and keeps them.
    """
    known = tasks(place)
    here = _mounts_of("self", place)
    found = set()
    for pid in _one_for_each_mount_namespace():
        for point in _mounts_of(str(pid), place) - here:
            if _is_stray(Path(point), place, known):
                found.add(f"{point} (process {pid}, {command_of(pid)})")
    return found


def runtime_state(place: Place) -> set[str]:
    """What runtimes keep of containers that are no tasks."""
    known = tasks(place)
    return {
        str(path)
        for path in tree.grandchildren(place.settings.runtime_root)
        if (path.parent.name, path.name) not in known
    }


def tasks(place: Place) -> frozenset[Known]:
    """The tasks that there are, by the daemon's word or, without one, those whose shims listen."""
    if place.daemon():
        # Other checks say it if the daemon does not answer, or cannot be asked.
        with suppress(SupervisorError, TimeoutError, ImportError):
            return frozenset(asyncio.run(_listed(place)))
    return frozenset((path.parent.name, path.name) for path in _bundles(place) if _is_served(path))


async def _listed(place: Place) -> set[Known]:
    # Here, because it loads packages that may be the very ones that are broken.
    from supervisor.client.client import Client

    found: set[Known] = set()
    async with asyncio.timeout(_PATIENCE), Client(str(place.address)) as client:
        for namespace in await client.namespaces.list():
            for task in await client.in_namespace(namespace.name).tasks.list():
                found.add((namespace.name, task.container_id))
    return found


def _bundles(place: Place) -> Iterator[Path]:
    return (path for path in tree.grandchildren(place.settings.bundles) if not path.name.startswith("."))


def _address(bundle: Path) -> str:
    """The socket of a bundle's shim, empty when none has been told."""
    for name in ("bootstrap.json", "address"):
        try:
            return parse_answer((bundle / name).read_bytes()).address.removeprefix(UNIX)
        except (OSError, SupervisorError):
            continue
    return ""


def _is_served(bundle: Path) -> bool:
    address = _address(bundle)
    return bool(address) and is_listened_at(address)


def _mounts_of(pid: str, place: Place) -> set[str]:
    """The mounts below root and state that a process sees, at the places where it sees them."""
    try:
        table = (PROC / pid / "mountinfo").read_bytes()
    except OSError:  # ended meanwhile
        return set()
    tops = tuple(f"{os.path.realpath(top)}/" for top in (place.root, place.state))
    points = (parse_line(line).mount_point for line in table.splitlines())
    return {point for point in points if point.startswith(tops)}


def _is_stray(point: Path, place: Place, known: Set[Known]) -> bool:
    """Whether a mount is of a task that is none; those of the mount manager are its own to judge."""
    if point.parent == Path(os.path.realpath(place.root)) / "tmpmounts":
        return True
    try:
        inside = point.relative_to(os.path.realpath(place.settings.bundles)).parts
    except ValueError:
        return False
    return len(inside) > 1 and (inside[0], inside[1]) not in known


def _one_for_each_mount_namespace() -> Iterator[int]:
    seen = {_mount_namespace("self")}
    for pid in pids():
        namespace = _mount_namespace(str(pid))
        if namespace and namespace not in seen:
            seen.add(namespace)
            yield pid


def _mount_namespace(pid: str) -> str:
    try:
        return os.readlink(PROC / pid / "ns/mnt")
    except OSError:
        return ""
