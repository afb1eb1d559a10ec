"""Opening the store so that a damaged one never keeps the daemon from starting.

    look       is the file there, whole, with the log that it was left with?
    replace    mark; what is lost set aside; the newest good backup in its place, if there is one
    open       a backup first if the schema is to be migrated

The mark stays until `taking_up` has agreed the store with disk and kernel again: a daemon that is killed
in between goes on where this one was, and until then nothing is collected for want of a row.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from supervisor.errors import DataLoss, SupervisorError
from supervisor.kernel.files import fsync_directory, sync_file, write_durably
from supervisor.metadata import migrate, sequences
from supervisor.metadata.database import Database
from supervisor.recovery import backups, damage
from supervisor.recovery.aside import Aside
from supervisor.recovery.backups import Backup, Backups, telling
from supervisor.recovery.layout import Layout

MIGRATIONS_KEPT = 3
"""Backups from before migrations, of each schema."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loss:
    """What is wrong with a store; `older` when it is whole, but not as new as it was."""

    what: str
    older: bool = False


def look(layout: Layout) -> Loss | None:
    """What is wrong with the store of a root that no daemon serves; None also for a new root."""
    if not layout.store.exists():
        return Loss("it is missing") if layout.has_traces() else None
    if wrong := damage.found_in(layout.store):
        return Loss(f"it is damaged: {'; '.join(wrong)}")
    if damage.revision(layout.store) is None:
        return Loss("it is empty") if layout.has_traces() else None
    if layout.opened.exists() and not layout.log.exists():
        return Loss(f"{layout.log.name}, which held its newest changes, is missing", older=True)
    return None


def replace(layout: Layout, loss: Loss) -> Backup | None:
    """Set a lost store aside and put the newest good backup in its place; answers that.

    None when there is none, or the store that has lost its log only is newer, and stays.
    """
    backup = Backups(layout.backups).newest_good()
    if loss.older and (backup is None or damage.last_event(backup.path) <= damage.last_event(layout.store)):
        backup, told = None, "it is used as it was at its last checkpoint, which no backup is newer than"
    else:
        told = (
            "there is no good backup: a new store begins" if backup is None else f"restored {backup.told()}"
        )
    _mark(layout, f"{loss.what}; {told}")
    log.error("the store %s is lost: %s", layout.store, loss.what)
    if not loss.older or backup is not None:
        _set_store_aside(layout, loss.what)
    if backup is not None:
        _put(layout, backup.path)
    log.error("the store: %s; what is on disk and runs is taken up again, other changes since are lost", told)
    return backup


def _put(layout: Layout, copy: Path) -> None:
    """Make a copy the store, durably; the mark is set, and no store is there."""
    temporary = layout.store.with_name(f".{layout.store.name}.restored")
    with telling(f"restore {copy} as {layout.store}"):
        shutil.copyfile(copy, temporary)
        temporary.chmod(0o600)
        sync_file(temporary)
        os.replace(temporary, layout.store)
        fsync_directory(layout.root)


def _mark(layout: Layout, text: str) -> None:
    with telling(f"write {layout.replaced}"):
        write_durably(layout.replaced, f"{text}\n".encode())
    layout.opened.unlink(missing_ok=True)


def restore(layout: Layout, copy: Path) -> Path | None:
    """Replace the store by a copy that an administrator chose; answers where the former one is.

    Raises DataLoss when the copy is no good backup.
    """
    if wrong := backups.faults(copy):
        raise DataLoss(f"restore {copy}: it is no good backup: {'; '.join(wrong)}")
    _mark(layout, f"an administrator asked for it; restored {copy}")
    aside = _set_store_aside(layout, f"replaced by {copy}, as an administrator asked")
    _put(layout, copy)
    return aside


def open_store(layout: Layout) -> Database:
    """The store, whatever has become of it; close it by `close_store`. Raises SupervisorError."""
    loss = look(layout)
    if loss is not None:
        replace(layout, loss)
    try:
        database = open_whole(layout)
    except DataLoss as error:  # damage that shows only when it is written to
        replace(layout, Loss(f"it is damaged: {error.__cause__}"))
        database = open_whole(layout)
    layout.opened.touch(0o600)
    return database


def open_whole(layout: Layout) -> Database:
    """The store, or a new one, migrated if need be; close it. Raises as Database."""
    if layout.store.exists():
        have, own = damage.revision(layout.store), max(migrate.revisions())
        if have is not None and have < own:
            _back_up_before_migration(layout, have)
    database = Database(layout.store)
    if layout.replaced.exists():
        database.write(lambda tx: sequences.leave_a_gap(tx, _highest_folder(layout), int(time.time())))
    return database


def close_store(layout: Layout, database: Database) -> None:
    """Close it, and note that this was in order. First the note: SQLite removes the log at its close."""
    layout.opened.unlink(missing_ok=True)
    database.close()


def _back_up_before_migration(layout: Layout, schema: str) -> None:
    """A migration is one transaction, so it goes on without a backup rather than leave no daemon."""
    try:
        source = backups.reader_of(layout.store)
        made = Backups(layout.backups).make(source, f"schema-{schema}", MIGRATIONS_KEPT)
    except DataLoss:
        raise
    except SupervisorError as error:
        log.error("the store is migrated without a backup of it: %s", error)
    else:
        log.info("the store is migrated from schema %s; as it was, it is in %s", schema, made.path)


def _set_store_aside(layout: Layout, why: str) -> Path | None:
    aside = Aside(layout.aside)
    found = [path for path in layout.store_files if path.exists()]
    for path in found:
        log.error("set aside as %s", aside.take(path, why))
    return aside.path if found else None


def _highest_folder(layout: Layout) -> int:
    return max((number for driver in layout.drivers() for number in layout.numbers(driver)), default=0)
