"""The daemon: whether it runs, answers, is the one that is installed; its sockets, its unit."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.doctor import tree
from supervisor.doctor.finding import Check, Finding, failure, note, ok, some, warning
from supervisor.doctor.folders import others_write
from supervisor.doctor.place import Place, ScopedSocket
from supervisor.doctor.processes import PROC, command_of, lock_holder, openers_of
from supervisor.doctor.programs import Unusable, asked, found
from supervisor.errors import PermissionDenied, SupervisorError

if TYPE_CHECKING:
    from supervisor.client.introspection import Plugin

_THEME = "daemon"
_PATIENCE = 4.0
_SLOW = 0.25
"""Seconds for a call that takes a millisecond."""
_UNIT = "container-supervisor.service"
_OTHERS = 0o007


@dataclass(frozen=True, slots=True)
class Word:
    """What a daemon says of itself, and how long one call took, in seconds."""

    version: str
    pid: int
    root: str
    plugins: list[Plugin]
    seconds: float


def checks(place: Place) -> list[Check]:
    """Of a daemon that need not run."""
    return [
        Check(_THEME, "process", lambda: process(place)),
        Check(_THEME, "answer", lambda: answer(place)),
        Check(_THEME, "socket", lambda: socket_file(place, place.address)),
        Check(_THEME, "shims' socket", lambda: socket_file(place, Path(f"{place.address}.ttrpc"))),
        *(Check(_THEME, f"socket {one.name}", partial(scoped_socket, place, one)) for one in place.sockets),
        Check(_THEME, "store's users", lambda: store_users(place)),
        Check(_THEME, "systemd", lambda: systemd(place)),
    ]


def process(place: Place) -> Finding:
    """Root and state are held by one process."""
    pid, other = place.daemon(), lock_holder(place.state / "lock")
    if pid is None and other is None:
        return note(f"no daemon runs on {place.root}", "container-supervisor serve")
    if pid != other:
        return failure(
            f"{place.root} is held by {_named(pid)}, {place.state} by {_named(other)}",
            "give --root and --state (or --config) of one daemon; each needs both for itself",
        )
    return ok(f"process {pid} holds root and state")


def _named(pid: int | None) -> str:
    return f"process {pid} ({command_of(pid)})" if pid else "nobody"


def answer(place: Place) -> Finding | None:
    """Whoever listens at the address answers, soon, is the daemon of this root and version, and is whole."""
    pid = place.daemon()
    try:
        word = asyncio.run(_asked(place))
    except TimeoutError:
        return failure(
            f"no answer within {_PATIENCE:g} s at {place.address}",
            "see the daemon's log; if it hangs, containers live on while it is killed and started again",
        )
    except PermissionDenied as error:
        return note(str(error))
    except ImportError:
        return None  # the check of the modules says so
    except SupervisorError as error:
        if pid is None:
            return None
        return failure(
            f"process {pid} holds the root: {error}",
            f"it may be starting; else give its --address, see: {command_of(pid)}",
        )
    return _judged(place, word)


def _judged(place: Place, word: Word) -> Finding:
    if word.root and os.path.realpath(word.root) != os.path.realpath(place.root):
        return warning(
            f"the daemon at {place.address} works on {word.root}, not on {place.root}",
            "give its --root and --state, or its --config, to have the right ones looked at",
        )
    broken = [f"{one.type} {one.id}: {one.trouble}" for one in word.plugins if one.trouble]
    if broken:
        return failure(
            f"these parts did not load: {some(broken)}",
            "mend the cause and restart the daemon; its log tells more",
        )
    if place.version and word.version != place.version:
        return warning(
            f"{word.version} runs, {place.version} is installed", "restart the daemon; containers run on"
        )
    speed = f"a call takes {word.seconds * 1000:.1f} ms"
    told = f"{word.version} at {place.address}, all its parts loaded, {speed}"
    if word.seconds > _SLOW:
        return warning(told, "see what keeps the machine or the daemon busy (top, the daemon's log)")
    return ok(told)


async def _asked(place: Place) -> Word:
    # Here, because it loads packages that may be the very ones that are broken.
    from supervisor.client.client import Client

    async with asyncio.timeout(_PATIENCE), Client(str(place.address)) as client:
        about = client.introspection
        version = await about.version()
        began = time.perf_counter()
        await about.version()  # the first call connects
        seconds = time.perf_counter() - began
        server = await about.server()
        return Word(version.version, server.pid, await about.root(), await about.plugins(), seconds)


def socket_file(place: Place, path: Path) -> Finding | None:
    """Whoever connects is as good as root, so a socket is for owner and group, and nobody can replace it."""
    status = tree.status(path)
    if status is None:
        return _without_socket(place, path)
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        return failure(
            f"{path} has mode {mode:04o}: every user of the machine is as good as root",
            f"chmod 0660 {path}, and see who changed it",
        )
    above = tree.status(path.parent)
    if above and others_write(above) and not above.st_mode & stat.S_ISVTX:
        return failure(
            f"others may write to {path.parent}, and put a socket of theirs in place of {path.name}",
            f"chmod go-w {path.parent}",
        )
    return ok(f"{path}, of {status.st_uid}:{status.st_gid}, mode {mode:04o}")


def scoped_socket(place: Place, wanted: ScopedSocket) -> Finding | None:
    """A further socket has the owner and the mode of its configuration: they decide who may connect."""
    status = tree.status(wanted.path)
    if status is None:
        return _without_socket(place, wanted.path)
    wrong = []
    if stat.S_IMODE(status.st_mode) != wanted.mode:
        wrong.append(f"mode {stat.S_IMODE(status.st_mode):04o}, not {wanted.mode:04o}")
    for what, is_, should in (("user", status.st_uid, wanted.uid), ("group", status.st_gid, wanted.gid)):
        if should not in (-1, is_):
            wrong.append(f"{what} {is_}, not {should}")
    if wrong:
        return failure(f"{wanted.path} has {some(wrong)}", "restart the daemon, and see who changed it")
    return ok(f"{wanted.path}, of {status.st_uid}:{status.st_gid}, mode {wanted.mode:04o}")


def _without_socket(place: Place, path: Path) -> Finding | None:
    if place.daemon() is None:
        return None
    return failure(
        f"{path} is not there, though the daemon runs; nobody can connect by it",
        "restart the daemon (containers run on); or give --address or --config as the daemon has them",
    )


def store_users(place: Place) -> Finding | None:
    """Nobody but the daemon has the store open: a second writer can damage it."""
    if tree.status(place.store) is None:
        return None
    if os.geteuid():
        return note("only root can see who has it open", "run this as root to have it looked at")
    others = openers_of(place.store) - {place.daemon()}
    if others:
        return warning(
            f"{place.store} is open in {some(_named(pid) for pid in sorted(others))}",
            "end them; to look into the store, ask the daemon (sctr), or copy what a backup made",
        )
    return ok(f"nobody but the daemon has {place.store.name} open")


def systemd(place: Place, run: Path = Path("/run/systemd/system")) -> Finding | None:
    """The unit spares the shims when the daemon stops."""
    if not run.is_dir():
        return None
    program = found("systemctl", os.environ.get("PATH", os.defpath))
    pid = place.daemon()
    unit = (unit_of(pid) if pid else "") or _UNIT
    if program is None:
        return note("systemd runs, and there is no systemctl to ask")
    try:
        told = asked(program, "show", unit, "--property=LoadState,KillMode,Delegate")
    except Unusable as error:
        return note(f"the unit was not looked at: {error}")
    return unit_finding(unit, dict(line.partition("=")[::2] for line in told.text.splitlines()))


def unit_of(pid: int, proc: Path = PROC) -> str:
    """The systemd service that a process belongs to, by its cgroup; empty when it is none."""
    try:
        text = (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return ""
    match = re.search(r"^(?:\d+:name=systemd|0:):/.*?([^/]+\.service)$", text, re.MULTILINE)
    return match[1] if match else ""


def unit_finding(unit: str, shown: dict[str, str]) -> Finding:
    """What the properties of a unit mean for containers."""
    if shown.get("LoadState") != "loaded":
        return ok(f"no unit {unit}, and the daemon is not run by another")
    if shown.get("KillMode") not in ("process", "none"):
        return failure(
            f"{unit} has KillMode={shown.get('KillMode')}: a stop or a restart kills every container's shim",
            f"systemctl edit {unit}: [Service] KillMode=process; then systemctl daemon-reload",
        )
    if shown.get("Delegate") != "yes":
        return warning(
            f"{unit} has no Delegate=yes: systemd may change the cgroups of what the daemon has started",
            f"systemctl edit {unit}: [Service] Delegate=yes; then systemctl daemon-reload",
        )
    return ok(f"{unit}: KillMode={shown['KillMode']}, Delegate=yes")
