"""OCI runtimes, criu, and the shims that the daemon starts: found where the daemon looks, and running."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

from supervisor.doctor import cgroups
from supervisor.doctor.finding import Check, Finding, failure, note, ok, warning
from supervisor.doctor.place import Place
from supervisor.doctor.programs import Unusable, asked, found
from supervisor.doctor.software import numbers
from supervisor.errors import SupervisorError
from supervisor.shimv2.naming import DEFAULT_RUNTIMES, OWN_RUNTIME, shim_path

_THEME = "runtimes"
_PATCHED = ((1, 2, 8), (1, 3, 3))
"""The first of each line of runc without CVE-2025-31133, -52565 and -52881; all later lines are without."""
_SPEC = re.compile(r"^spec: (\S+)", re.MULTILINE)
_VERSION = re.compile(r"version (\S+)")


def checks(place: Place) -> list[Check]:
    """runc, which our shim runs by default, what else there is, and each shim that has a name."""
    names = dict.fromkeys((*DEFAULT_RUNTIMES, OWN_RUNTIME, *place.runtimes))
    return [
        Check(_THEME, "runc", lambda: runc(place.search_path())),
        Check(_THEME, "crun", lambda: crun(place.search_path(), cgroups.read())),
        Check(_THEME, "criu", lambda: criu(place.search_path())),
        *(Check(_THEME, name, partial(shim, name, place)) for name in names),
    ]


def runc(path: str) -> Finding:
    """Our shim's default; without it only containers that name another runtime start."""
    program = found("runc", path)
    if program is None:
        return failure(
            f"no runc on the path {path}, and it is the default runtime",
            "install it (apt-get install runc), or have clients name another (sctr run --runc-binary crun)",
        )
    try:
        version, told = _told(program)
    except Unusable as error:
        return failure(str(error), "install it anew (apt-get install --reinstall runc)")
    if _is_patched(numbers(version)):
        return ok(told)
    return note(
        f"{told}; escapes from containers were mended in 1.2.8 and 1.3.3 (CVE-2025-31133, -52565, -52881)",
        "upgrade it, unless your distribution has patched this version: see its security tracker",
    )


def crun(path: str, found_cgroups: cgroups.Cgroups) -> Finding:
    """An option for each container; it refuses hybrid cgroups where v2 has a controller."""
    program = found("crun", path)
    if program is None:
        return ok("not installed; only containers that ask for it need it")
    try:
        _, told = _told(program)
    except Unusable as error:
        return warning(str(error), "install it anew, or have nobody ask for it")
    if found_cgroups.kind == "hybrid" and found_cgroups.v2:
        name = min(found_cgroups.v2)
        return warning(
            f"{told}; it starts nothing on these cgroups, since v2 has {' '.join(sorted(found_cgroups.v2))}"
            " beside v1's",
            f"boot with one version of cgroups, or give {name} to v1 (mount -t cgroup -o {name} none DIR)",
        )
    return ok(told)


def criu(path: str) -> Finding:
    """Needed for checkpoints and nothing else."""
    program = found("criu", path)
    if program is None:
        return note("not installed: no checkpoints, all else works", "apt-get install criu, if you want them")
    if os.geteuid():
        return note(f"{program}; only root can try it", "run this as root to have it tried")
    try:
        answer = asked(program, "check")
    except Unusable as error:
        return note(f"no checkpoints: {error}", "install one that fits this kernel")
    if answer.code:
        last = answer.text.splitlines()[-1:] or ["it says nothing"]
        return note(f"no checkpoints: {program} check failed: {last[0]}", "install one that fits this kernel")
    return ok(f"{program} says that it works on this kernel")


def shim(name: str, place: Place) -> Finding:
    """The binary that the daemon would start for a runtime's name, by the same rule."""
    advice = f'install it, or name another for "{name}" under [runtime.shims]'
    try:
        binary = shim_path(name, place.runtimes)
    except SupervisorError as error:
        return failure(str(error), advice)
    try:
        answer = asked(binary, "-v")
    except Unusable as error:
        return failure(str(error), advice)
    if answer.code:
        return failure(f"{binary} -v ended with {answer.code}: {answer.text[:200]}", advice)
    return ok(f"{binary}{_version_of_shim(answer.text)}")


def _version_of_shim(text: str) -> str:
    match = re.search(r"^\s*Version:\s*(\S+)", text, re.MULTILINE)
    return f", {match[1]}" if match else ""


def _told(program: Path) -> tuple[str, str]:
    """A runtime's version, and what is to be said of it; raises Unusable."""
    answer = asked(program, "--version")
    version = _VERSION.search(answer.text)
    if answer.code or version is None:
        raise Unusable(f"{program} --version ended with {answer.code} and said {answer.text[:200]!r}")
    spec = _SPEC.search(answer.text)
    return version[1], f"{program}, {version[1]}{f', OCI spec {spec[1]}' if spec else ''}"


def _is_patched(version: tuple[int, ...]) -> bool:
    line = next((first for first in _PATCHED if version[:2] == first[:2]), None)
    return version >= (line or max(_PATCHED))
