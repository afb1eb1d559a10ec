"""What else is on the machine or on the way: other engines, registries' descriptions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from supervisor.doctor import tree
from supervisor.doctor.finding import Check, Finding, failure, note, ok, some
from supervisor.doctor.place import Place
from supervisor.doctor.processes import listeners
from supervisor.errors import SupervisorError
from supervisor.registry import hosts_file

_THEME = "surroundings"
_ENGINES = {
    "containerd": Path("/run/containerd/containerd.sock"),
    "Docker": Path("/run/docker.sock"),
    "CRI-O": Path("/run/crio/crio.sock"),
    "Podman": Path("/run/podman/podman.sock"),
}


def checks(place: Place) -> list[Check]:
    """Nothing of it has to be there."""
    return [
        Check(_THEME, "other engines", lambda: engines(place.address, _ENGINES)),
        Check(_THEME, "registries", partial(registries, place.hosts)),
    ]


def engines(address: Path, known: dict[str, Path]) -> Finding:
    """Others that run here; ours may have been given one's address on purpose."""
    heard = listeners().values()  # also those that this user may not connect to
    running = [f"{name} ({path})" for name, path in known.items() if path != address and str(path) in heard]
    if not running:
        return ok("none listens at its usual place")
    return note(
        f"{some(running)}: nothing is shared, neither images nor containers",
        f"clients choose by address: CONTAINERD_ADDRESS={address}",
    )


def registries(folder: Path) -> Finding | None:
    """Each hosts.toml can be read: a mistake in one fails every pull from its registry."""
    described = [path for path in tree.children(folder) if path.is_dir()]
    wrong = []
    for path in described:
        try:
            hosts_file.read(path)
        except SupervisorError as error:
            wrong.append(str(error))
    if wrong:
        return failure(some(wrong), "mend it; no restart is needed")
    return ok(f"{len(described)} described in {folder}") if described else None
