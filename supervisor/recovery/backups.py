"""Backups: whole copies of the store in ROOT/backups, each one plain file that is verified before it counts.

    metadata-TIME-REASON.db     a backup; REASON is why it was made, or the schema that was left behind
    .unfinished*                one that is being made, or was when its maker was killed

SQLite's online backup copies pages as they are, in one step and in one state, while the writer goes on.
`VACUUM INTO` would do so too, and make the copy smaller by what is free in the file (2 % of ours), but it
builds every table and index anew and takes three times as long. A copy of damaged pages is damaged: that
is what the check of the copy is for, and why each backup is an examination of the store as well.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from supervisor.errors import DataLoss, FailedPrecondition, ResourceExhausted, SupervisorError, Unavailable
from supervisor.kernel.files import fsync_directory, locked, sync_file
from supervisor.metadata import migrate
from supervisor.metadata.database import translating
from supervisor.model import instant
from supervisor.model.instant import Nanoseconds
from supervisor.recovery import damage
from supervisor.recovery.aside import stamp

SCHEDULED, REQUESTED, BEFORE_REPAIR = "scheduled", "requested", "before-repair"

Source = Callable[[sqlite3.Connection], None]
"""Fills a connection with a state of the store, as `Database.copy_to` does."""

_NAME = re.compile(r"metadata-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d\.\d{3})Z-([a-z0-9-]+)\.db")
_UNFINISHED = ".unfinished"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup: where it is, when it was made, why, its size in bytes."""

    path: Path
    made_at: Nanoseconds
    reason: str
    size: int

    def told(self) -> str:
        """It in a few words."""
        return f"{self.path} of {instant.format_rfc3339(self.made_at)}"


class Backups:
    """The backups in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Backup]:
        """All backups, good or not, newest first."""
        found = [backup for path in self.folder.glob("metadata-*.db") if (backup := _described(path))]
        return sorted(found, key=lambda backup: (backup.made_at, backup.path.name), reverse=True)

    def newest_good(self) -> Backup | None:
        """The newest that is whole and of a schema that this version can use."""
        return next((backup for backup in self.all() if not faults(backup.path)), None)

    def make(self, source: Source, reason: str, keep: int) -> Backup:
        """Make one, and remove older ones of that reason, so that `keep` of them are left.

        Raises DataLoss when the store is damaged, ResourceExhausted when the disk is full, Unavailable
        while another one is being made; then no backup has come or gone.
        """
        with self._alone():
            path = self._free(reason)
            write(source, path, self.folder / _UNFINISHED)
            for old in [backup for backup in self.all() if backup.reason == reason][max(keep, 1) :]:
                old.path.unlink(missing_ok=True)
        made = _described(path)
        assert made is not None
        return made

    def _free(self, reason: str) -> Path:
        while (path := self.folder / f"metadata-{stamp()}-{reason}.db").exists():
            pass  # another millisecond will have come
        return path

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder, made if need be, so that what is unfinished in it is known to be nobody's."""
        with telling(f"back up the store to {self.folder}"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = locked(self.folder / "lock")
            lock.__enter__()
        try:
            for left in self.folder.glob(f"{_UNFINISHED}*"):
                left.unlink()
            yield
        finally:
            lock.__exit__(None, None, None)


def write(source: Source, path: Path, unfinished: Path) -> None:
    """Write a verified copy to `path`, durably, by way of the file `unfinished`; raises as `Backups.make`."""
    with telling(f"back up the store to {path}"):
        try:
            if wrong := _copy(source, unfinished) or faults(unfinished):
                raise DataLoss(
                    f"back up the store to {path}: the copy is not good ({wrong[0]}), and so the store is"
                    " damaged; older backups are kept: see docs/recovery.md"
                )
            os.replace(unfinished, path)
            fsync_directory(path.parent)
        except BaseException:
            for left in unfinished.parent.glob(f"{unfinished.name}*"):
                left.unlink()
            raise


def faults(path: Path) -> list[str]:
    """Why a copy is no good backup for this version: damage, or a schema that it does not know."""
    if wrong := damage.found_in(path, thorough=True):
        return wrong
    schema = damage.revision(path)
    return [] if schema in migrate.revisions() else [f"its schema, {schema}, is not known to this version"]


def reader_of(store: Path) -> Source:
    """The source that reads the file of a store, whether or not a daemon writes to it."""

    def copy(target: sqlite3.Connection) -> None:
        with damage.reading(store) as connection:
            connection.backup(target)

    return copy


def _copy(source: Source, path: Path) -> list[str]:
    """Fill a new file, and have it on disk; answers why that is not even a store, if so."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as target:
        try:
            with translating(f"write {path}"):
                target.execute("PRAGMA synchronous=OFF")  # it is synced as a whole, below
                target.execute("PRAGMA journal_mode=OFF")
                source(target)
                target.execute("PRAGMA journal_mode=DELETE")  # one plain file, without a log beside it
        except DataLoss as error:
            return [str(error.__cause__)]
    sync_file(path)
    return []


def _described(path: Path) -> Backup | None:
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    with suppress(FileNotFoundError, SupervisorError):
        made_at = instant.parse_rfc3339("{}-{}-{}T{}:{}:{}Z".format(*match.groups()))
        return Backup(path, made_at, match[7], path.stat().st_size)
    return None


@contextmanager
def telling(attempt: str) -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what was attempted."""
    try:
        yield
    except BlockingIOError as error:
        raise Unavailable(
            f"{attempt}: another backup is being made ({error.strerror}); try again when it is done"
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise ResourceExhausted(f"{attempt}: {error.strerror}; free some space") from error
        raise FailedPrecondition(f"{attempt}: {error}") from error
