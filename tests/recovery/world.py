"""A root with a store, blobs and snapshots in it, made by the daemon's own parts, to do damage to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from supervisor.content.local import LocalStore
from supervisor.metadata import containers, images
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.database import Database
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshot_rules import Finished, New
from supervisor.metadata.snapshots import Snapshots
from supervisor.model.container import Container, Runtime
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest, of_bytes
from supervisor.model.identifiers import Namespace
from supervisor.model.image import Image
from supervisor.recovery import opening, taking_up
from supervisor.recovery.backups import REQUESTED, Backup, Backups
from supervisor.recovery.layout import Layout
from supervisor.snapshots.native import NativeSnapshotter

BLUE = Namespace("blue")
PLACE = Place(BLUE, "native")
LAYER, MANIFEST = b"layer" * 100, b"manifest"
LAYER_DIGEST, MANIFEST_DIGEST = of_bytes(LAYER), of_bytes(MANIFEST)
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a daemon that has the root open."""

    database: Database
    content: ContentStore
    snapshots: Snapshots

    def put(self, data: bytes, labels: dict[str, str] | None = None) -> Digest:
        """Write a blob."""
        ingest = self.content.open_ingest(BLUE, f"put-{of_bytes(data)}")
        ingest.append(data)
        return ingest.commit(0, "", labels or {})

    def image(self, name: str = "img") -> None:
        """An image of one layer, with the labels by which a client keeps them together."""
        layer = self.put(LAYER)
        unpacked = {"containerd.io/gc.ref.snapshot.native": "layer", "containerd.io/gc.ref.content.0": layer}
        manifest = self.put(MANIFEST, unpacked)
        target = Descriptor("application/vnd.oci.image.manifest.v1+json", manifest, len(MANIFEST), {})
        self.database.write(lambda tx: images.create(tx, BLUE, Image(name, target, {}, 0, 0)))

    def layer(self, name: str, parent: str = "") -> None:
        """A committed snapshot."""
        self.snapshots.prepare(PLACE, New(f"extract {name}", parent))
        self.snapshots.commit(PLACE, Finished(f"extract {name}", name))

    def container(self, id_: str, parent: str) -> None:
        """A container on a writable snapshot of its own."""
        self.snapshots.prepare(PLACE, New(id_, parent))
        record = Container(id_, Runtime("r"), snapshotter="native", snapshot_key=id_)
        self.database.write(lambda tx: containers.create(tx, BLUE, record))

    def number(self, key: str) -> int:
        """The number of a snapshot's folder."""
        query = "SELECT id FROM snapshots WHERE key = ?"
        return int(self.database.read(lambda c: c.connection.execute(query, (key,)).fetchone()[0]))


@dataclass(frozen=True, slots=True)
class World:
    """One root."""

    layout: Layout

    @contextmanager
    def open(self, *, killed: bool = False) -> Iterator[Parts]:
        """Open it as the daemon does at its start; `killed` leaves the mark of one that was."""
        database = opening.open_store(self.layout)
        try:
            files = LocalStore(self.layout.content)
            taking_up.reconcile(self.layout, database, files, self.layout.root / "bundles")
            driver = NativeSnapshotter(self.layout.root / "io.containerd.snapshotter.v1.native")
            yield Parts(database, ContentStore(database, files), Snapshots(database, [driver]))
        finally:
            opening.close_store(self.layout, database)
            if killed:
                self.layout.opened.touch()

    def back_up(self, reason: str = REQUESTED, keep: int = 5) -> Backup:
        """A backup of the store as it is."""
        with self.open() as parts:
            return Backups(self.layout.backups).make(parts.database.copy_to, reason, keep)

    def execute(self, *statements: str) -> None:
        """Do something to the store that the daemon never would."""
        with closing(sqlite3.connect(self.layout.store)) as raw:
            raw.execute("PRAGMA foreign_keys=OFF")
            for statement in statements:
                raw.execute(statement)
            raw.commit()

    def write_untriggered(self, statement: str) -> None:
        """Write what the store's triggers would refuse."""
        found = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        with closing(sqlite3.connect(self.layout.store)) as raw:
            triggers = raw.execute(found).fetchall()
        dropped = [f'DROP TRIGGER "{name}"' for name, _ in triggers]
        self.execute(*dropped, statement, *(sql for _, sql in triggers))

    def empty_an_index(self) -> None:
        """Have an index that lacks the rows of its table, and every page in order."""
        self.execute("DROP INDEX ix_images_namespace_digest_name")
        self.execute(
            "CREATE INDEX ix_images_namespace_digest_name ON images (namespace, digest, name) WHERE 0"
        )
        self.execute(
            "PRAGMA writable_schema=ON",
            "UPDATE sqlite_master SET sql = replace(sql, ' WHERE 0', '')"
            " WHERE name = 'ix_images_namespace_digest_name'",
        )

    def overwrite(self, offset: int, size: int) -> None:
        """Write rubbish over a part of the store's file."""
        with self.layout.store.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xa5" * size)

    def aside(self) -> dict[str, Path]:
        """What was set aside, by name."""
        return {path.name: path for path in self.layout.aside.glob("*/*") if path.name != "NOTES"}

    def notes(self) -> str:
        """What is noted of it."""
        return "".join(path.read_text() for path in self.layout.aside.glob("*/NOTES"))
