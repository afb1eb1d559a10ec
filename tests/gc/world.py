"""A store with real files, a collector, and short words for making and looking at objects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from supervisor.content.local import LocalStore
from supervisor.gc.collector import Collector
from supervisor.metadata import containers, images, leases
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.database import Database
from supervisor.metadata.edges import Node
from supervisor.metadata.mount_manager import MountManager
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshot_rules import Finished, New
from supervisor.metadata.snapshots import Snapshots
from supervisor.model.container import Container, Runtime
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.identifiers import Namespace
from supervisor.model.image import Image
from supervisor.model.lease import Lease, Resource
from supervisor.model.mount import Mount
from supervisor.snapshots.native import NativeSnapshotter

BLUE = Namespace("blue")
PAST, FUTURE = "2001-01-01T00:00:00Z", "2200-01-01T00:00:00Z"
SNAPSHOT = "snapshot/native"

_OBJECTS = """
    SELECT namespace, 'lease', id FROM leases
    UNION ALL SELECT namespace, 'image', name FROM images
    UNION ALL SELECT namespace, 'ingest', ref FROM ingests
    UNION ALL SELECT namespace, 'content', digest FROM blobs
    UNION ALL SELECT namespace, 'snapshot/' || snapshotter, key FROM snapshots
"""


def data(name: str) -> bytes:
    return f"the bytes of {name}".encode()


def digest(name: str) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data(name)).hexdigest()}")


def labelled(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels whose keys are given without their common beginning."""
    return {f"containerd.io/gc.{key}": value for key, value in labels.items()}


class World:
    def __init__(self, database: Database, root: Path) -> None:
        self.database = database
        self.files = LocalStore(root / "content")
        self.content = ContentStore(database, self.files)
        self.driver = NativeSnapshotter(root / "native")
        self.snapshots = Snapshots(database, [self.driver])
        self.mounts = MountManager(database, root / "mounts", (root,))
        self.collector = Collector(self.content, self.snapshots, self.mounts)

    @classmethod
    @contextmanager
    def opened(cls, root: Path) -> Iterator[World]:
        with Database(root / "metadata.db") as database:
            yield cls(database, root)

    def blob(
        self,
        name: str,
        labels: Mapping[str, str] | None = None,
        lease: str | None = None,
        namespace: Namespace = BLUE,
    ) -> Digest:
        ingest = self.content.open_ingest(namespace, f"write-{name}", lease)
        try:
            ingest.append(data(name)) if not ingest.status().offset else None
            return ingest.commit(0, "", labelled(labels or {}))
        finally:
            ingest.close()

    def image(
        self,
        name: str,
        target: str,
        labels: Mapping[str, str] | None = None,
        lease: str | None = None,
        namespace: Namespace = BLUE,
    ) -> None:
        image = Image(name, Descriptor("m", digest(target), 1), labelled(labels or {}))
        self.database.write(lambda tx: images.create(tx, namespace, image, lease))

    def snapshot(
        self,
        key: str,
        parent: str = "",
        labels: Mapping[str, str] | None = None,
        lease: str | None = None,
        *,
        committed: bool = False,
        namespace: Namespace = BLUE,
    ) -> None:
        place = Place(namespace, "native")
        first = f"{key}-active" if committed else key
        self.snapshots.prepare(place, New(first, parent, labels=labelled(labels or {})), lease)
        if committed:
            self.snapshots.commit(place, Finished(first, key, labels=labelled(labels or {})), lease)

    def lease(
        self,
        id_: str,
        labels: Mapping[str, str] | None = None,
        resources: Sequence[Resource] = (),
        namespace: Namespace = BLUE,
    ) -> None:
        def make(tx: object) -> None:
            leases.create(tx, namespace, Lease(id_, labelled(labels or {})))  # type: ignore[arg-type]
            for resource in resources:
                leases.add_resource(tx, namespace, id_, resource)  # type: ignore[arg-type]

        self.database.write(make)

    def container(
        self,
        id_: str,
        snapshot: str = "",
        labels: Mapping[str, str] | None = None,
        namespace: Namespace = BLUE,
    ) -> None:
        made = Container(
            id=id_,
            runtime=Runtime("r"),
            snapshotter="native" if snapshot else "",
            snapshot_key=snapshot,
            labels=labelled(labels or {}),
        )
        self.database.write(lambda tx: containers.create(tx, namespace, made))

    def ingest(self, ref: str, lease: str | None = None, namespace: Namespace = BLUE) -> None:
        opened = self.content.open_ingest(namespace, ref, lease)
        opened.append(b"half")
        opened.close()

    def age_ingest(self, ref: str, namespace: Namespace = BLUE) -> None:
        """Let a day pass for one ingest."""
        age = text("UPDATE ingests SET expires_at = 1 WHERE namespace = :namespace AND ref = :ref")
        self.database.write(lambda tx: tx.execute(age, {"namespace": namespace, "ref": ref}))

    def mount(self, name: str, source: Path, labels: Mapping[str, str], lease: str | None) -> None:
        mount = Mount("bind", str(source), ("bind",))
        self.mounts.activate(BLUE, name, [mount], labels, temporary=True, lease_id=lease)

    def mounted(self) -> set[str]:
        return {activation.name for activation in self.mounts.find(BLUE)}

    def objects(self) -> set[Node]:
        """All collectible objects that have a record."""
        return {Node(*row) for row in self.database.read(lambda c: c.execute(text(_OBJECTS)).all())}

    def names(self, namespace: Namespace = BLUE) -> set[str]:
        """The names of what is there, blobs by their short names where the test made them by `blob`."""
        return {node.key for node in self.objects() if node.namespace == namespace}

    def topics(self) -> list[str]:
        return list(
            self.database.read(
                lambda c: c.execute(text("SELECT topic FROM events ORDER BY sequence")).scalars()
            )
        )

    def assert_agreed(self) -> None:
        """Records and files are the same set."""
        recorded = {node.key for node in self.objects() if node.type == "content"}
        assert {blob.digest for blob in self.files.blobs()} == recorded
        numbers = self.database.read(lambda c: set(c.execute(text("SELECT id FROM snapshots")).scalars()))
        assert self.driver.numbers() == numbers
        refs = {f"{n.namespace}/1/{n.key}" for n in self.objects() if n.type == "ingest"}
        assert {status.ref for status in self.files.ingests()} == refs
