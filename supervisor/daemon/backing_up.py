"""The daemon's own backups: one each interval in which something has changed, for as long as it serves.

A backup that fails is logged and tried again an interval later. One that finds the store damaged says so:
what was read from it so far may be whole still, and the next start puts the newest good backup in its place.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from supervisor.blocking import in_thread
from supervisor.daemon.config import Backup as Settings
from supervisor.errors import SupervisorError
from supervisor.metadata.database import Database
from supervisor.model.instant import SECOND, now
from supervisor.recovery.backups import SCHEDULED, Backups

LEAST_DELAY = 60.0
"""Seconds after its start in which a daemon makes none: it has other things to do then."""

log = logging.getLogger(__name__)


class BackupKeeper:
    """Makes backups while inside its `async with`."""

    def __init__(self, database: Database, folder: Path, settings: Settings) -> None:
        self._database = database
        self._backups = Backups(folder)
        self._settings = settings
        self._copied: int | None = None
        """The store's count of changes at the last backup; None when that was another daemon's."""
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> BackupKeeper:
        if self._settings.interval:
            self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *error: object) -> None:
        """Let one that is being made come to its end: the store must not be closed under it."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _keep(self) -> None:
        delay = await in_thread(self._first_delay)
        while not await self._is_over_after(delay):
            await in_thread(self.back_up)
            delay = self._settings.interval

    async def _is_over_after(self, seconds: float) -> bool:
        """Wait, until the end at the longest; whether it has come."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    def _first_delay(self) -> float:
        """Seconds until the newest backup is an interval old."""
        newest = next((one for one in self._backups.all() if one.reason == SCHEDULED), None)
        age = self._settings.interval if newest is None else (now() - newest.made_at) / SECOND
        least = min(LEAST_DELAY, self._settings.interval)
        return max(least, min(self._settings.interval - age, self._settings.interval))

    def back_up(self) -> bool:
        """Make a backup unless nothing has changed since the last one; whether one was made. Blocks."""
        changes = self._database.changes
        if changes == self._copied:
            return False
        try:
            made = self._backups.make(self._database.copy_to, SCHEDULED, self._settings.keep)
        except SupervisorError as error:
            log.error("%s", error)
            return False
        self._copied = changes
        log.info("backup %s, %d KiB", made.path, made.size >> 10)
        return True
