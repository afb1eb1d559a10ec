"""What the daemon is made of: packages, its own modules, SQLite; found, new enough and fitting together."""

from __future__ import annotations

import importlib
import re
import sqlite3
import time
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution, requires, version

from supervisor.doctor.finding import Check, Finding, failure, ok, some, warning
from supervisor.doctor.place import Place

DISTRIBUTION = "container-supervisor"
MODULES = "modules"
"""The name of the check after which it is known that everything can be loaded."""

_THEME = "software"
_REQUIREMENT = re.compile(r"([\w.-]+)\s*\(?([^;)]*)")
_OLDEST_SQLITE = (3, 35)
"""The first with RETURNING."""
_RACELESS_SQLITE = (3, 51, 3)
_REINSTALL = "install the project anew: pip install --upgrade container-supervisor"


def checks(place: Place) -> list[Check]:
    """Of the interpreter that this runs in, which is the daemon's if both were installed together."""
    return [
        Check(_THEME, "packages", partial(packages, DISTRIBUTION)),
        Check(_THEME, MODULES, partial(modules, place.modules), seconds=60),
        Check(_THEME, "protobuf", protobuf),
        Check(_THEME, "SQLite", partial(sqlite, sqlite3.sqlite_version_info)),
        Check(_THEME, "name clash", name_clash),
    ]


def packages(name: str) -> Finding:
    """Each required package is there, in a version that will do."""
    needed = [one for one in requires(name) or () if "extra ==" not in one]
    wrong = [complaint for one in needed if (complaint := _complaint(one))]
    if wrong:
        return failure(some(wrong), _REINSTALL)
    return ok(f"{name} {version(name)}, and all {len(needed)} packages that it needs")


def _complaint(requirement: str) -> str:
    match = _REQUIREMENT.match(requirement)
    assert match, requirement
    name, bounds = match[1], match[2]
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is not installed"
    broken = [bound for bound in bounds.split(",") if bound.strip() and not _holds(found, bound.strip())]
    return f"{name} {found} is not {broken[0]}" if broken else ""


def _holds(found: str, bound: str) -> bool:
    """Whether a version is within `>=X`, `<X` or `==X`; other bounds are left to pip."""
    match = re.match(r"(>=|<|==)\s*([\d.]+)$", bound)
    if match is None:
        return True
    have, want = numbers(found), numbers(match[2])
    return {">=": have >= want, "<": have < want, "==": have == want}[match[1]]


def numbers(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with; zeros at its end do not count."""
    match = re.match(r"\d+(\.\d+)*", text)
    found = [int(word) for word in match[0].split(".")] if match else []
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def modules(names: tuple[str, ...]) -> Finding:
    """All that daemon, shims and clients load can be loaded."""
    began = time.monotonic()
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a module does when it is loaded
            return failure(f"{name} cannot be loaded: {type(error).__name__}: {error}", _REINSTALL)
    return ok(f"all that daemon, shims and clients load can be loaded, in {time.monotonic() - began:.1f} s")


def protobuf() -> Finding:
    """The library fits the generated code, and is the fast one."""
    try:
        # The code asks the library for its version when it is loaded.
        importlib.import_module("supervisor.api.services.tasks.v1.tasks_pb2")
    except Exception as error:  # google.protobuf.runtime_version.VersionError, if there is a protobuf at all
        return failure(f"{type(error).__name__}: {error}", _REINSTALL)
    kind = importlib.import_module("google.protobuf.internal.api_implementation").Type()
    if kind == "python":
        return warning(
            f"{version('protobuf')} in pure Python, which makes every call many times slower",
            "unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION, or install a wheel of protobuf for this machine",
        )
    return ok(f"{version('protobuf')} ({kind}) fits the generated code")


def sqlite(found: tuple[int, ...]) -> Finding:
    """New enough for the statements; the WAL-reset race of most versions cannot happen with one writer."""
    text = ".".join(map(str, found))
    if found < _OLDEST_SQLITE:
        return failure(f"{text}; the store needs 3.35 or newer", "use a Python with a newer SQLite")
    with sqlite3.connect(":memory:") as connection:
        try:
            connection.execute("SELECT value FROM json_each('[1]')")
        except sqlite3.OperationalError as error:
            return failure(f"{text}, {error}", "use a Python whose SQLite has the JSON functions")
    if found < _RACELESS_SQLITE:
        return ok(f"{text}; its WAL-reset race (until 3.51.3) takes two writers, the daemon has one")
    return ok(text)


def name_clash() -> Finding:
    """PyPI's `supervisor`, another program, has an import package of the same name."""
    try:
        other = distribution("supervisor")
    except PackageNotFoundError:
        return ok("no other package called `supervisor` is in this environment")
    return failure(
        f"the package supervisor {other.version} overwrites modules of this one",
        "give each a virtual environment of its own, then install container-supervisor anew",
    )
