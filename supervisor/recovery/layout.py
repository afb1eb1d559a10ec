"""Where things lie below the daemon's root, for those who look at a root that no daemon serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SNAPSHOTTER = "io.containerd.snapshotter.v1."


@dataclass(frozen=True, slots=True)
class Layout:
    """The places below one root. Nothing is made by looking them up."""

    root: Path

    @property
    def store(self) -> Path:
        """The file of all metadata."""
        return self.root / "metadata.db"

    @property
    def log(self) -> Path:
        """What the store's file does not hold yet (SQLite's write-ahead log)."""
        return self.root / "metadata.db-wal"

    @property
    def store_files(self) -> tuple[Path, ...]:
        """The store with all that SQLite keeps beside it."""
        return self.store, self.log, self.root / "metadata.db-shm"

    @property
    def opened(self) -> Path:
        """There while a daemon has the store open, and after one that was killed."""
        return self.root / "metadata.opened"

    @property
    def replaced(self) -> Path:
        """There from before another store takes the place of a lost one until all is taken up again."""
        return self.root / "metadata.replaced"

    @property
    def backups(self) -> Path:
        """Copies of the store."""
        return self.root / "backups"

    @property
    def aside(self) -> Path:
        """What was taken out of use, by time."""
        return self.root / "set-aside"

    @property
    def content(self) -> Path:
        """The content store."""
        return self.root / "io.containerd.content.v1.content"

    def drivers(self) -> list[str]:
        """The snapshot drivers that have files here."""
        return sorted(path.name.removeprefix(SNAPSHOTTER) for path in self.root.glob(f"{SNAPSHOTTER}*"))

    def snapshot(self, driver: str, number: int) -> Path:
        """The folder of one snapshot."""
        return self.root / f"{SNAPSHOTTER}{driver}" / "snapshots" / str(number)

    def numbers(self, driver: str) -> set[int]:
        """The numbers of all snapshots that have a folder with a driver."""
        folders = (self.root / f"{SNAPSHOTTER}{driver}" / "snapshots").glob("*")
        return {int(folder.name) for folder in folders if folder.name.isdecimal()}

    def has_traces(self) -> bool:
        """Whether a store has been at work here: blobs, ingests, snapshots or backups of it are there."""
        return next(self._traces(), None) is not None

    def _traces(self) -> Iterator[Path]:
        yield from self.backups.glob("*.db")
        yield from self.content.glob("blobs/*/*")
        yield from self.content.glob("ingest/*")
        yield from self.root.glob(f"{SNAPSHOTTER}*/snapshots/*")
