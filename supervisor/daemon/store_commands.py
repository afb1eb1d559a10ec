"""The commands `backup` and `fsck`: for an administrator, on the files below a root.

`backup` reads the store as any reader does, so a daemon may be at work. `backup --restore` and `fsck`
need the root for themselves.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.daemon import config as configuration
from supervisor.errors import AlreadyExists, FailedPrecondition, NotFound, SupervisorError
from supervisor.kernel.files import locked
from supervisor.model import instant

if TYPE_CHECKING:
    from supervisor.recovery.findings import Report
    from supervisor.recovery.layout import Layout

CLEAN, REPAIRED, LEFT, NOT_CHECKED = 0, 1, 4, 8
"""What fsck ends with, as fsck(8) does."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands to those of `container-supervisor`."""
    backup = commands.add_parser(
        "backup",
        help="copy the store of all metadata, whether or not the daemon runs",
        description="Copy the store to FILE, or to ROOT/backups. The copy is verified before it counts.",
    )
    _add_root(backup)
    instead = backup.add_mutually_exclusive_group()
    instead.add_argument("file", nargs="?", metavar="FILE", type=Path, help="a new file for the copy")
    instead.add_argument("--list", action="store_true", help="show the backups there are")
    instead.add_argument(
        "--restore",
        metavar="FILE",
        type=Path,
        help="put a backup in the store's place; the daemon must be stopped",
    )
    backup.set_defaults(run=_backup)
    fsck = commands.add_parser(
        "fsck",
        help="check the store against itself and against the disk; the daemon must be stopped",
        description="Exit status: 0 nothing is wrong, 1 all was repaired, 4 some is left, 8 not checked.",
    )
    _add_root(fsck)
    fsck.add_argument("--repair", action="store_true", help="repair what can be repaired without loss")
    fsck.add_argument("--deep", action="store_true", help="read every blob and check its digest")
    fsck.add_argument("--json", action="store_true", help="print one JSON document")
    fsck.set_defaults(run=_fsck)


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", type=Path, help="the daemon's settings, for its root")
    parser.add_argument("--root", metavar="DIR", help="the daemon's root")


def _layout(options: argparse.Namespace) -> Layout:
    from supervisor.recovery.layout import Layout

    layout = Layout(Path(options.root or configuration.load(options.config).root))
    if not layout.root.is_dir():
        raise NotFound(f"the daemon's root {layout.root}: no such folder; name it with --root")
    return layout


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """Hold the root as a daemon does; raises FailedPrecondition while one does."""
    try:
        lock = locked(layout.root / "lock")
        lock.__enter__()
    except BlockingIOError as error:
        raise FailedPrecondition(
            f"the root {layout.root} is in use ({error.strerror}): stop the daemon first, containers run on"
        ) from error
    except OSError as error:
        raise FailedPrecondition(f"use the root {layout.root}: {error}") from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _backup(options: argparse.Namespace) -> int:
    layout = _layout(options)
    if options.list:
        return _list(layout)
    if options.restore is not None:
        return _restore(layout, options.restore)
    return _make(layout, options.file)


def _make(layout: Layout, file: Path | None) -> int:
    from supervisor.recovery import backups

    if not layout.store.exists():
        raise NotFound(f"back up {layout.store}: there is no store")
    source = backups.reader_of(layout.store)
    if file is None:
        path = backups.Backups(layout.backups).make(source, backups.REQUESTED, REQUESTED_KEPT).path
    else:
        path = file.absolute()
        if path.exists():
            raise AlreadyExists(f"back up to {path}: name a file that is not there yet")
        backups.write(source, path, path.with_name(f".{path.name}.unfinished"))
    print(f"{path}  {_size(path.stat().st_size)}  verified")
    return 0


def _list(layout: Layout) -> int:
    from supervisor.recovery import backups

    for backup in backups.Backups(layout.backups).all():
        wrong = backups.faults(backup.path)
        state = f"not good: {wrong[0]}" if wrong else "good"
        made = instant.format_rfc3339(backup.made_at)
        print(f"{made}  {_size(backup.size):>9}  {backup.reason:<14}  {backup.path}  {state}")
    return 0


def _restore(layout: Layout, copy: Path) -> int:
    from supervisor.recovery import opening

    with _alone(layout):
        aside = opening.restore(layout, copy.absolute())
    print(f"restored {copy}; what is on disk and runs is taken up again when the daemon starts")
    if aside is not None:
        print(f"the store that was there is in {aside}")
    return 0


REQUESTED_KEPT = 8
"""Backups in ROOT/backups that were made on request; files that the caller named are not ours to remove."""


def _size(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def _fsck(options: argparse.Namespace) -> int:
    from supervisor.recovery.fsck import check

    try:
        layout = _layout(options)
        with _alone(layout):
            report = check(layout, deep=options.deep, repair=options.repair)
    except SupervisorError as error:
        print(f"container-supervisor: fsck: {error}", file=sys.stderr)
        return NOT_CHECKED
    _print(report, as_json=options.json)
    if not report.findings:
        return CLEAN
    return LEFT if report.left else REPAIRED


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.as_document(), indent=2))
        return
    for finding in report.findings:
        print(finding.line())
    print(report.summary())
