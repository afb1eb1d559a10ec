"""`container-supervisor doctor`: the configuration as the checks want it, their findings told."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

from supervisor.daemon.config import Config
from supervisor.doctor.checks import all_checks
from supervisor.doctor.examine import examine
from supervisor.doctor.finding import Check, Finding, Verdict, failure, ok
from supervisor.doctor.place import Place, ScopedSocket
from supervisor.doctor.report import Lines, Result, as_json, is_fit, summary
from supervisor.doctor.software import DISTRIBUTION, MODULES
from supervisor.errors import SupervisorError

_MODULES = (
    "uvloop",
    "supervisor.daemon.server",
    "supervisor.daemon.parts",
    "supervisor.daemon.services",
    "supervisor.shimv2.runc.server",
    "supervisor.client.client",
)
_WIDTH = 110


def examination(load: Callable[[], Config], fallback: Config, file: Path | None, *, json: bool) -> int:
    """Ask everything of the installation that `load` describes; answers the exit status.

    Where its configuration is wrong that is one more finding, and the rest is asked of `fallback`.
    """
    try:
        config, trouble = load(), ""
    except SupervisorError as error:
        config, trouble = fallback, str(error)
    place = place_of(config)
    first = Check("configuration", str(file or "defaults"), lambda: _configured(config, trouble))
    checks = [first, *all_checks(place)]
    return _as_json(place, checks) if json else _as_lines(place, checks)


def place_of(config: Config) -> Place:
    """What a configuration says of where things are."""
    return Place(
        root=Path(config.root),
        state=Path(config.state),
        address=Path(config.grpc.address),
        version=_version(),
        modules=_MODULES,
        sockets=tuple(
            ScopedSocket(name, Path(one.path), int(one.mode, 8), one.uid, one.gid)
            for name, one in config.sockets.items()
        ),
        runtimes=config.runtime.shims,
        drivers=config.snapshots.drivers,
        hosts=Path(config.transfer.hosts),
    )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return ""


def _configured(config: Config, trouble: str) -> Finding:
    """What `config check` says, and what `serve` refuses before it begins."""
    if trouble:
        return failure(trouble, "mend it; what follows was asked of the defaults")
    from supervisor.daemon.server import check_paths

    try:
        check_paths(config)
    except SupervisorError as error:
        return failure(str(error), "mend it; the daemon does not start like this")
    return ok(f"root {config.root}, state {config.state}")


def _results(checks: Sequence[Check]) -> Iterator[Result]:
    for check in checks:
        finding = examine(check)
        if finding is not None:
            yield Result(check, finding)
        if check.name == MODULES and finding and finding.verdict is Verdict.OK:
            # Some checks ask the daemon, each in a fork of this process: what they load is loaded once.
            import_module("supervisor.client.client")


def _as_lines(place: Place, checks: list[Check]) -> int:
    lines = Lines(checks, min(shutil.get_terminal_size((_WIDTH, 24)).columns, _WIDTH))
    print(f"container-supervisor {place.version} on {os.uname().nodename}, looked at by user {os.geteuid()}")
    results = []
    for result in _results(checks):
        results.append(result)
        for line in lines.of(result):
            print(line)
        sys.stdout.flush()  # a later check may take its time
    print(f"\n{summary(results)}")
    return 0 if is_fit(results) else 1


def _as_json(place: Place, checks: list[Check]) -> int:
    results = list(_results(checks))
    about = {
        "version": place.version,
        "host": os.uname().nodename,
        "user": os.geteuid(),
        "root": str(place.root),
        "state": str(place.state),
        "address": str(place.address),
    }
    print(as_json(about, results))
    return 0 if is_fit(results) else 1
