"""Rules of contract section 7, on rows and on real folders of the overlay driver; no mount, no root."""

from pathlib import Path

import pytest
from sqlalchemy import select, update

from supervisor.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SupervisorError,
)
from supervisor.metadata import leases, namespaces
from supervisor.metadata.database import Database, Transaction
from supervisor.metadata.schema import EdgeRow, SnapshotRow
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshot_rules import Finished, New
from supervisor.metadata.snapshots import Snapshots
from supervisor.model.event import Envelope
from supervisor.model.identifiers import namespace
from supervisor.model.lease import Lease
from supervisor.snapshots.native import NativeSnapshotter
from supervisor.snapshots.overlay import OverlaySnapshotter
from supervisor.snapshots.snapshotter import Kind, Layer, Usage

BLUE = Place(namespace("blue"), "overlayfs")
RED = Place(namespace("red"), "overlayfs")
COPIES = Place(namespace("blue"), "native")
REF = "containerd.io/snapshot.ref"


@pytest.fixture
def driver(tmp_path: Path) -> OverlaySnapshotter:
    return OverlaySnapshotter(tmp_path / "overlayfs")


@pytest.fixture
def snapshots(database: Database, driver: OverlaySnapshotter, tmp_path: Path) -> Snapshots:
    return Snapshots(database, [driver, NativeSnapshotter(tmp_path / "native")])


@pytest.fixture
def told(database: Database) -> list[Envelope]:
    events: list[Envelope] = []
    database.tell(events.extend)
    return events


@pytest.fixture
def lease(database: Database) -> str:
    database.write(lambda tx: leases.create(tx, BLUE.namespace, Lease("l", {})))
    return "l"


def held(database: Database) -> list[str]:
    found = database.read(lambda c: leases.resources(c, BLUE.namespace, "l"))
    return [resource.id for resource in found]


def chain(snapshots: Snapshots, *names: str, place: Place = BLUE) -> None:
    parent = ""
    for name in names:
        snapshots.prepare(place, New(f"making {name}", parent))
        snapshots.commit(place, Finished(f"making {name}", name))
        parent = name


def keys(snapshots: Snapshots, place: Place = BLUE, *filters: str) -> list[str]:
    return [info.name for info in snapshots.list(place, filters)]


def edges_of(database: Database, key: str) -> set[tuple[str, str, str]]:
    query = select(EdgeRow.kind, EdgeRow.target_type, EdgeRow.target_key).where(EdgeRow.source_key == key)
    return set(map(tuple, database.read(lambda c: c.execute(query).all())))


def test_prepare_commit_and_build_on_it(snapshots: Snapshots) -> None:
    """7.1: the life of a snapshot."""
    chain(snapshots, "one", "two")
    mounts = snapshots.prepare(BLUE, New("top", "two"))
    assert mounts == snapshots.mounts(BLUE, "top")
    assert mounts[0].options[2].count("/fs") == 2
    assert [(i.name, i.parent, i.kind) for i in snapshots.list(BLUE)] == [
        ("one", "", Kind.COMMITTED),
        ("top", "two", Kind.ACTIVE),
        ("two", "one", Kind.COMMITTED),
    ]


def test_times_and_labels(snapshots: Snapshots) -> None:
    """7.1: commit has new times, and the labels of its request only."""
    snapshots.prepare(BLUE, New("k", labels={"a": "1", "empty": ""}))
    prepared = snapshots.stat(BLUE, "k")
    assert prepared.created_at == prepared.updated_at
    assert prepared.labels == {"a": "1"}
    snapshots.commit(BLUE, Finished("k", "n", labels={"b": "2"}))
    committed = snapshots.stat(BLUE, "n")
    assert committed.labels == {"b": "2"}
    assert committed.created_at == committed.updated_at > prepared.created_at
    with pytest.raises(NotFound):
        snapshots.stat(BLUE, "k")


def test_events(snapshots: Snapshots, told: list[Envelope]) -> None:
    """7.1, 10: prepare, commit and remove are told; view and update are not."""
    chain(snapshots, "one")
    snapshots.prepare(BLUE, New("v", "one", Kind.VIEW))
    snapshots.update(BLUE, "v", {"a": "1"})
    snapshots.remove(BLUE, "v")
    assert [e.topic for e in told] == ["/snapshot/prepare", "/snapshot/commit", "/snapshot/remove"]
    assert {e.namespace for e in told} == {"blue"}


@pytest.mark.parametrize("name", ["", "zfs"])
def test_an_unknown_snapshotter(snapshots: Snapshots, name: str) -> None:
    """7: InvalidArgument, never NotFound."""
    with pytest.raises(InvalidArgument):
        snapshots.list(Place(BLUE.namespace, name))


class TestPrepare:
    """7.1, row Prepare: errors and their order."""

    def test_label_too_large(self, snapshots: Snapshots) -> None:
        with pytest.raises(InvalidArgument, match="4096"):
            snapshots.prepare(BLUE, New("k", "missing", labels={"k": "v" * 4096}))

    def test_key_exists_before_parent_missing(self, snapshots: Snapshots) -> None:
        snapshots.prepare(BLUE, New("k"))
        with pytest.raises(AlreadyExists):
            snapshots.prepare(BLUE, New("k", "missing"))

    def test_parent_missing_before_lease(self, snapshots: Snapshots) -> None:
        with pytest.raises(NotFound, match="parent"):
            snapshots.prepare(BLUE, New("k", "missing"), "no lease")

    def test_parent_not_committed(self, snapshots: Snapshots) -> None:
        snapshots.prepare(BLUE, New("active"))
        snapshots.prepare(BLUE, New("view", kind=Kind.VIEW))
        for parent in ("active", "view"):
            with pytest.raises(InvalidArgument, match="committed"):
                snapshots.prepare(BLUE, New("k", parent))

    def test_bad_mapping_is_unknown_and_before_the_lease(self, snapshots: Snapshots) -> None:
        labels = {"containerd.io/snapshot/uidmapping": "nonsense"}
        with pytest.raises(SupervisorError, match="uidmapping") as raised:
            snapshots.prepare(BLUE, New("", labels=labels), "no lease")
        assert raised.value.code == 2

    def test_lease_before_the_empty_key(self, snapshots: Snapshots) -> None:
        with pytest.raises(NotFound, match="lease"):
            snapshots.prepare(BLUE, New(""), "no lease")
        with pytest.raises(SupervisorError, match="empty") as raised:
            snapshots.prepare(BLUE, New(""))
        assert raised.value.code == 2

    def test_a_refusal_makes_nothing(self, snapshots: Snapshots, database: Database) -> None:
        """1.1: not even the namespace."""
        with pytest.raises(NotFound):
            snapshots.prepare(BLUE, New("k", "missing"))
        assert database.read(namespaces.all_labels) == []


class TestSnapshotRef:
    """7.4: the target of `snapshot.ref`."""

    def test_it_exists_already(self, snapshots: Snapshots, database: Database, lease: str) -> None:
        chain(snapshots, "target")
        with pytest.raises(NotFound, match="lease"):
            snapshots.prepare(BLUE, New("k", "missing", labels={REF: "target"}), "no lease")
        with pytest.raises(AlreadyExists, match="target"):
            snapshots.prepare(BLUE, New("k", "missing", labels={REF: "target"}), lease)
        assert held(database) == ["target"]
        assert keys(snapshots) == ["target"]

    def test_it_does_not_exist_yet(self, snapshots: Snapshots) -> None:
        snapshots.prepare(BLUE, New("k", labels={REF: "target"}))
        assert keys(snapshots) == ["k"]

    def test_another_namespace_does_not_count(self, snapshots: Snapshots) -> None:
        """7.2: chains are not shared."""
        chain(snapshots, "target", place=RED)
        snapshots.prepare(BLUE, New("k", labels={REF: "target"}))


class TestCommit:
    """7.1, row Commit: errors and their order."""

    def test_nothing_there_comes_first(self, snapshots: Snapshots) -> None:
        with pytest.raises(NotFound, match="no snapshots"):
            snapshots.commit(BLUE, Finished("k", ""), "no lease")

    def test_then_the_lease(self, snapshots: Snapshots) -> None:
        snapshots.prepare(BLUE, New("k"))
        for key, name in (("k", "n"), ("k", "k")):
            with pytest.raises(NotFound, match="lease"):
                snapshots.commit(BLUE, Finished(key, name), "no lease")

    def test_then_the_name_also_when_it_is_the_key(self, snapshots: Snapshots) -> None:
        snapshots.prepare(BLUE, New("k"))
        for key in ("k", "missing"):
            with pytest.raises(AlreadyExists):
                snapshots.commit(BLUE, Finished(key, "k"))

    def test_then_key_and_parent(self, snapshots: Snapshots) -> None:
        snapshots.prepare(BLUE, New("v", kind=Kind.VIEW))
        with pytest.raises(NotFound, match="missing"):
            snapshots.commit(BLUE, Finished("missing", "n"))
        with pytest.raises(NotFound, match="parent"):
            snapshots.commit(BLUE, Finished("v", "n", parent="missing"))

    def test_views_and_committed_ones_stay_what_they_are(self, snapshots: Snapshots) -> None:
        chain(snapshots, "c")
        snapshots.prepare(BLUE, New("v", kind=Kind.VIEW))
        for key in ("c", "v"):
            with pytest.raises(FailedPrecondition, match="not active"):
                snapshots.commit(BLUE, Finished(key, "n"))

    def test_empty_name(self, snapshots: Snapshots) -> None:
        snapshots.prepare(BLUE, New("k"))
        with pytest.raises(SupervisorError, match="empty") as raised:
            snapshots.commit(BLUE, Finished("k", ""))
        assert raised.value.code == 2

    def test_rebase(self, snapshots: Snapshots) -> None:
        chain(snapshots, "p")
        snapshots.prepare(BLUE, New("k"))
        snapshots.prepare(BLUE, New("active"))
        with pytest.raises(FailedPrecondition, match="active"):
            snapshots.commit(BLUE, Finished("k", "n", parent="active"))
        snapshots.commit(BLUE, Finished("k", "n", parent="p"))
        assert snapshots.stat(BLUE, "n").parent == "p"
        with pytest.raises(FailedPrecondition):
            snapshots.remove(BLUE, "p")

    def test_another_parent_than_it_has_is_ignored(self, snapshots: Snapshots) -> None:
        chain(snapshots, "a", "b")
        snapshots.prepare(BLUE, New("k", "a"))
        snapshots.commit(BLUE, Finished("k", "n", parent="b"))
        assert snapshots.stat(BLUE, "n").parent == "a"

    def test_copies_are_not_rebased(self, snapshots: Snapshots) -> None:
        """7.6: it would lose the parent's files."""
        chain(snapshots, "p", place=COPIES)
        snapshots.prepare(COPIES, New("k"))
        with pytest.raises(FailedPrecondition, match="another parent"):
            snapshots.commit(COPIES, Finished("k", "n", parent="p"))


def test_mounts_of_what_has_none(snapshots: Snapshots) -> None:
    """7.1, row Mounts."""
    chain(snapshots, "c")
    with pytest.raises(NotFound):
        snapshots.mounts(BLUE, "missing")
    with pytest.raises(FailedPrecondition):
        snapshots.mounts(BLUE, "c")


def test_remove_refuses_while_others_build_on_it(snapshots: Snapshots) -> None:
    """7.1, row Remove: children of any kind; the key is reusable at once."""
    chain(snapshots, "p")
    for new in (New("a", "p"), New("v", "p", Kind.VIEW)):
        snapshots.prepare(BLUE, new)
        with pytest.raises(FailedPrecondition, match=new.key):
            snapshots.remove(BLUE, "p")
        snapshots.remove(BLUE, new.key)
    snapshots.remove(BLUE, "p")
    with pytest.raises(NotFound):
        snapshots.remove(BLUE, "p")
    snapshots.prepare(BLUE, New("p"))


def test_removed_folders_go_to_the_trash_and_are_deleted_later(
    database: Database, driver: OverlaySnapshotter
) -> None:
    """Architecture 4: row, commit; rename to trash; deleted in the background."""
    jobs: list[object] = []
    snapshots = Snapshots(database, [driver], later=jobs.append)
    snapshots.prepare(BLUE, New("k"))
    snapshots.remove(BLUE, "k")
    trash = Path(driver.root) / "trash"
    assert driver.numbers() == set()
    assert len(list(trash.iterdir())) == len(jobs) == 1
    snapshots.cleanup("overlayfs")
    assert list(trash.iterdir()) == []


class TestUpdate:
    """7.1, row Update."""

    def test_without_mask_labels_are_replaced(self, snapshots: Snapshots) -> None:
        snapshots.prepare(BLUE, New("k", labels={"a": "1"}))
        before = snapshots.stat(BLUE, "k")
        after = snapshots.update(BLUE, "k", {"b": "2", "c": ""})
        assert after == snapshots.stat(BLUE, "k")
        assert after.labels == {"b": "2"}
        assert after.created_at == before.created_at < after.updated_at

    def test_with_mask(self, snapshots: Snapshots) -> None:
        snapshots.prepare(BLUE, New("k", labels={"a": "1", "b.c": "2", "d": "3"}))
        given = {"b.c": "9", "d": "9"}
        assert snapshots.update(BLUE, "k", given, ["labels.a", "labels.b.c"]).labels == {"b.c": "9", "d": "3"}
        assert snapshots.update(BLUE, "k", given, ["labels"]).labels == given

    def test_errors_in_order(self, snapshots: Snapshots) -> None:
        large = {"k": "v" * 4096}
        with pytest.raises(InvalidArgument, match="names no"):
            snapshots.update(BLUE, "", large)
        with pytest.raises(NotFound):
            snapshots.update(BLUE, "k", large)
        snapshots.prepare(BLUE, New("k"))
        with pytest.raises(InvalidArgument, match="4096"):
            snapshots.update(BLUE, "k", large, ["parent"])
        for path in ("parent", "kind", "created_at", "labels.", "name"):
            with pytest.raises(InvalidArgument, match="update"):
                snapshots.update(BLUE, "k", {}, [path])


def test_list_filters(snapshots: Snapshots) -> None:
    """2, 7.1: fields of a snapshot."""
    chain(snapshots, "one", "two")
    snapshots.prepare(BLUE, New("ä", "two", labels={"colour.deep": "blue"}))
    snapshots.prepare(BLUE, New("view", "two", Kind.VIEW))
    assert keys(snapshots) == ["one", "two", "view", "ä"]
    assert keys(snapshots, BLUE, "kind==committed") == ["one", "two"]
    assert keys(snapshots, BLUE, "kind==view", "name==one") == ["one", "view"]
    assert keys(snapshots, BLUE, "parent==two,kind==active") == ["ä"]
    assert keys(snapshots, BLUE, 'parent==""') == ["one"]
    assert keys(snapshots, BLUE, 'labels."colour.deep"==blue') == ["ä"]
    assert keys(snapshots, BLUE, "labels.colour.deep") == ["ä"]
    assert keys(snapshots, BLUE, "size") == []
    with pytest.raises(InvalidArgument):
        snapshots.list(BLUE, ["kind="])


def test_namespaces_and_snapshotters_do_not_see_each_other(
    snapshots: Snapshots, driver: OverlaySnapshotter
) -> None:
    """7.2: the same key is another snapshot elsewhere."""
    for place in (BLUE, RED, COPIES):
        snapshots.prepare(place, New("k"))
    assert driver.numbers() == {1, 2}
    snapshots.remove(RED, "k")
    assert (keys(snapshots), keys(snapshots, RED), keys(snapshots, COPIES)) == (["k"], [], ["k"])


def test_usage(snapshots: Snapshots) -> None:
    """7.1, row Usage: active measured now, committed as it was then, view 0."""
    (mount,) = snapshots.prepare(BLUE, New("k"))
    before = snapshots.usage(BLUE, "k")
    (Path(mount.source) / "file").write_bytes(b"x" * 10_000)
    measured = snapshots.usage(BLUE, "k")
    assert measured.inodes == before.inodes + 1
    snapshots.commit(BLUE, Finished("k", "n"))
    (Path(mount.source) / "late").touch()
    assert snapshots.usage(BLUE, "n") == measured
    snapshots.prepare(BLUE, New("v", "n", Kind.VIEW))
    assert snapshots.usage(BLUE, "v") == Usage()


class TestLeases:
    """1.3: what a lease in context comes to hold."""

    def test_prepare_commit_remove(self, snapshots: Snapshots, database: Database, lease: str) -> None:
        snapshots.prepare(BLUE, New("k"), lease)
        assert held(database) == ["k"]
        snapshots.commit(BLUE, Finished("k", "n"), lease)
        assert held(database) == ["n"]
        snapshots.prepare(BLUE, New("v", "n", Kind.VIEW), lease)
        assert held(database) == ["n", "v"]
        snapshots.remove(BLUE, "v", lease)
        assert held(database) == ["n"]

    def test_already_there_is_held_all_the_same(
        self, snapshots: Snapshots, database: Database, lease: str
    ) -> None:
        snapshots.prepare(BLUE, New("k"))
        with pytest.raises(AlreadyExists):
            snapshots.prepare(BLUE, New("k"), lease)
        assert held(database) == ["k"]
        chain(snapshots, "n")
        with pytest.raises(AlreadyExists):
            snapshots.commit(BLUE, Finished("k", "n"), lease)
        assert held(database) == ["k", "n"]

    def test_an_empty_lease_is_an_unknown_one(self, snapshots: Snapshots) -> None:
        with pytest.raises(NotFound, match="lease"):
            snapshots.prepare(BLUE, New("k"), "")
        assert keys(snapshots) == []


def test_edges_follow_parents_and_labels(snapshots: Snapshots, database: Database) -> None:
    """11.1, 11.2: what garbage collection will follow."""
    chain(snapshots, "p")
    label = {"containerd.io/gc.ref.snapshot.overlayfs/x": "other"}
    snapshots.prepare(BLUE, New("k", "p", labels=label))
    parent = ("parent", "snapshot/overlayfs", "p")
    assert edges_of(database, "k") == {parent, ("ref", "snapshot/overlayfs", "other")}
    snapshots.update(BLUE, "k", {})
    assert edges_of(database, "k") == {parent}
    snapshots.commit(BLUE, Finished("k", "n"))
    assert (edges_of(database, "k"), edges_of(database, "n")) == (set(), {parent})
    snapshots.remove(BLUE, "n")
    assert edges_of(database, "n") == set()


class FullDisk(OverlaySnapshotter):
    """A driver that runs out of space half way."""

    def create(self, layer: Layer) -> None:
        super().create(layer)
        raise OSError(28, "No space left on device", self.root)


def test_a_driver_that_fails_leaves_nothing(database: Database, tmp_path: Path, told: list[Envelope]) -> None:
    driver = FullDisk(tmp_path / "full")
    snapshots = Snapshots(database, [driver])
    with pytest.raises(SupervisorError, match="free space") as raised:
        snapshots.prepare(BLUE, New("k"))
    assert raised.value.code == 8
    assert (keys(snapshots), driver.numbers(), told) == ([], set(), [])
    assert edges_of(database, "k") == set()


def test_what_is_being_made_is_not_seen_but_its_key_is_taken(
    snapshots: Snapshots, database: Database
) -> None:
    snapshots.prepare(BLUE, New("k"))
    database.write(_make_unfinished)
    assert keys(snapshots) == []
    for refused in (snapshots.stat, snapshots.mounts, snapshots.usage, snapshots.remove):
        with pytest.raises(NotFound):
            refused(BLUE, "k")
    with pytest.raises(AlreadyExists):
        snapshots.prepare(BLUE, New("k"))


def _make_unfinished(tx: Transaction) -> None:
    tx.execute(update(SnapshotRow).values(state="making"))


def test_reconcile_undoes_what_a_crash_left(
    snapshots: Snapshots, database: Database, driver: OverlaySnapshotter, caplog: pytest.LogCaptureFixture
) -> None:
    """Architecture 4: rows in the making, folders without rows, a full trash, rows without folders."""
    snapshots.prepare(BLUE, New("making"))
    database.write(_make_unfinished)
    snapshots.prepare(BLUE, New("whole"))
    driver.create(Layer(77, Kind.ACTIVE))
    driver.create(Layer(78, Kind.ACTIVE))
    driver.remove(78)
    snapshots.prepare(RED, New("lost"))
    driver.remove(3)
    snapshots.reconcile()
    assert keys(snapshots) == ["whole"]
    assert edges_of(database, "making") == set()
    assert driver.numbers() == {2}
    assert list((Path(driver.root) / "trash").iterdir()) == []
    assert "snapshot 3 has lost its files" in caplog.text
    snapshots.prepare(BLUE, New("making"))
    snapshots.reconcile()
    assert keys(snapshots) == ["making", "whole"]
