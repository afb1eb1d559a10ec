"""Contract 6 on records and bytes together: visibility, commit, sharing, leases, edges, events."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from supervisor.api.events.content_pb2 import ContentCreate, ContentDelete
from supervisor.content.local import LocalStore
from supervisor.content.store import Info
from supervisor.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SupervisorError,
    Unavailable,
)
from supervisor.metadata import ingests, leases, namespaces
from supervisor.metadata.blobs import Sharing
from supervisor.metadata.content_ingest import Ingest
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.database import Database
from supervisor.metadata.schema import EdgeRow, IngestRow
from supervisor.model.digest import Digest, of_bytes
from supervisor.model.event import Envelope
from supervisor.model.filters import parse_all
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.lease import Lease, Resource

BLUE, RED = Namespace("blue"), Namespace("red")
DATA = b"hello world"
HELLO = of_bytes(DATA)


@pytest.fixture
def store(database: Database, tmp_path: Path) -> ContentStore:
    return ContentStore(database, LocalStore(tmp_path / "content"))


@pytest.fixture
def isolated(database: Database, tmp_path: Path) -> ContentStore:
    return ContentStore(database, LocalStore(tmp_path / "content"), Sharing.ISOLATED)


@pytest.fixture
def lease(database: Database) -> str:
    return database.write(lambda tx: leases.create(tx, BLUE, Lease("l"))).id


@pytest.fixture
def told(database: Database) -> list[Envelope]:
    events: list[Envelope] = []
    database.tell(events.extend)
    return events


def put(
    store: ContentStore,
    namespace: Namespace,
    data: bytes = DATA,
    ref: str = "r",
    lease: str | None = None,
    **labels: str,
) -> Digest:
    ingest = store.open_ingest(namespace, ref, lease)
    try:
        ingest.append(data)
        return ingest.commit(len(data), "", labels)
    finally:
        ingest.close()


def labelled(labels: dict[str, str]) -> Info:
    """What an Update brings; its size and times do not matter."""
    return Info(HELLO, 99, Nanoseconds(5), Nanoseconds(5), labels)


def read(store: ContentStore, namespace: Namespace, digest: Digest = HELLO) -> bytes:
    file, size = store.open_blob(namespace, digest)
    with file:
        data = file.read()
    assert len(data) == size
    return data


def held(store: ContentStore, lease: str) -> list[Resource]:
    return store.database.read(lambda c: leases.resources(c, BLUE, lease))


def ingest_row(store: ContentStore, ref: str = "r") -> IngestRow | None:
    return store.database.read(
        lambda c: c.execute(select(IngestRow.__table__).where(IngestRow.ref == ref)).one_or_none()  # type: ignore[return-value]
    )


# --- records


def test_a_committed_blob_has_a_record(store: ContentStore) -> None:
    digest = put(store, BLUE, a="1", empty="")
    info = store.info(BLUE, digest)
    assert (info.digest, info.size, info.labels) == (HELLO, 11, {"a": "1"})
    assert info.created_at == info.updated_at
    assert read(store, BLUE) == DATA
    assert ingest_row(store) is None
    assert list(store.files.ingests()) == []


def test_info_read_and_list_never_look_across_namespaces(store: ContentStore) -> None:
    put(store, BLUE)
    for look in (store.info, store.open_blob, store.delete):
        with pytest.raises(NotFound):
            look(RED, HELLO)
    assert store.infos(RED) == []


def test_list_is_in_byte_order_and_filtered(store: ContentStore) -> None:
    digests = sorted(put(store, BLUE, bytes([n]), f"r{n}", n=str(n)) for n in range(4))
    assert [i.digest for i in store.infos(BLUE)] == digests
    assert [i.labels["n"] for i in store.infos(BLUE, parse_all(["labels.n==2"]))] == ["2"]
    assert [i.digest for i in store.infos(BLUE, parse_all([f"digest=={digests[1]}"]))] == digests[1:2]


def test_update_replaces_labels_or_just_one(store: ContentStore) -> None:
    put(store, BLUE, a="1", b="2")
    before = store.info(BLUE, HELLO)
    given = labelled({"a": "9", "b": "9"})
    one = store.update(BLUE, given, ["labels.a"])
    assert (one.labels, one.size, one.created_at) == ({"a": "9", "b": "2"}, 11, before.created_at)
    assert one.updated_at > before.updated_at
    assert store.update(BLUE, labelled({"c": "3"})).labels == {"c": "3"}
    assert store.info(BLUE, HELLO).labels == {"c": "3"}
    with pytest.raises(NotFound):
        store.update(RED, given)
    with pytest.raises(InvalidArgument):
        store.update(BLUE, labelled({"k": "v" * 4096}))


def test_labels_are_edges_in_the_same_transaction(store: ContentStore) -> None:
    other = of_bytes(b"other")
    query = select(EdgeRow.source_type, EdgeRow.source_key, EdgeRow.kind, EdgeRow.target_key)

    def edges() -> Sequence[object]:
        return [tuple(r) for r in store.database.read(lambda c: c.execute(query).all())]

    put(store, BLUE, **{"containerd.io/gc.ref.content.0": other})
    assert edges() == [("content", HELLO, "ref", other)]
    store.update(BLUE, labelled({}))
    assert edges() == []
    store.update(BLUE, labelled({"containerd.io/gc.ref.content": other}))
    store.delete(BLUE, HELLO)
    assert edges() == []


def test_delete_removes_the_file_when_nobody_has_it(store: ContentStore) -> None:
    put(store, BLUE)
    put(store, RED)
    store.delete(BLUE, HELLO)
    with pytest.raises(NotFound):
        store.info(BLUE, HELLO)
    assert read(store, RED) == DATA
    store.delete(RED, HELLO)
    assert store.files.size(HELLO) is None
    with pytest.raises(NotFound):
        store.delete(RED, HELLO)


def test_events_tell_of_commit_and_delete_only(store: ContentStore, told: list[Envelope]) -> None:
    ingest = store.open_ingest(BLUE, "r")
    ingest.append(DATA)
    ingest.commit(0, "", {}, media_type="text/plain")
    store.update(BLUE, labelled({"a": "1"}))
    store.delete(BLUE, HELLO)
    store.open_ingest(BLUE, "aborted").close()
    store.abort(BLUE, "aborted")
    assert [(e.topic, e.namespace) for e in told] == [
        ("/content/create", "blue"),
        ("/content/delete", "blue"),
    ]
    created, deleted = (e.event for e in told)
    assert created is not None
    assert deleted is not None
    assert ContentCreate.FromString(created.value) == ContentCreate(
        digest=HELLO, size=11, mediaType="text/plain"
    )
    assert (deleted.type_url, ContentDelete.FromString(deleted.value).digest) == (
        "containerd.events.ContentDelete",
        HELLO,
    )


# --- commit (6.4)


def test_a_label_that_is_too_large_keeps_the_ingest(store: ContentStore) -> None:
    with pytest.raises(InvalidArgument):
        put(store, BLUE, k="v" * 4096)
    assert store.status(BLUE, "r").offset == 11


@pytest.mark.parametrize(("total", "expected"), [(12, ""), (11, of_bytes(b"x"))])
def test_a_mismatch_keeps_the_ingest(store: ContentStore, total: int, expected: str) -> None:
    ingest = store.open_ingest(BLUE, "r")
    ingest.append(DATA)
    with pytest.raises(FailedPrecondition):
        ingest.commit(total, expected, {})
    ingest.close()
    again = store.open_ingest(BLUE, "r")
    assert again.commit(11, HELLO, {}) == HELLO


def test_committing_what_the_namespace_has(store: ContentStore, lease: str, told: list[Envelope]) -> None:
    put(store, BLUE, a="1")
    with pytest.raises(AlreadyExists):
        put(store, BLUE, ref="again", lease=lease, b="2")
    assert store.info(BLUE, HELLO).labels == {"a": "1"}
    assert (ingest_row(store, "again"), list(store.files.ingests())) == (None, [])
    assert held(store, lease) == [Resource("content", HELLO)]
    assert len(told) == 1


def test_committing_what_another_namespace_has_makes_a_record(store: ContentStore) -> None:
    put(store, BLUE, a="1")
    put(store, RED, b="2")
    assert (store.info(BLUE, HELLO).labels, store.info(RED, HELLO).labels) == ({"a": "1"}, {"b": "2"})


def test_expected_recorded_meanwhile_gives_the_ingest_up(store: ContentStore, lease: str) -> None:
    ingest = store.open_ingest(BLUE, "slow", lease)
    ingest.append(b"hello")
    assert ingest.give_up_if_recorded(HELLO) is False
    put(store, BLUE)
    assert ingest.give_up_if_recorded(HELLO) is True
    assert held(store, lease) == [Resource("content", HELLO)]
    store.open_ingest(BLUE, "slow").close()


def test_a_commit_after_abort_fails_and_records_nothing(store: ContentStore) -> None:
    ingest = store.open_ingest(BLUE, "r")
    ingest.append(b"hello")
    store.abort(BLUE, "r")
    ingest.append(b" world")
    with pytest.raises(SupervisorError, match="aborted") as raised:
        ingest.commit(0, "", {})
    assert raised.value.code == 2
    assert (store.infos(BLUE), list(store.files.blobs())) == ([], [])


def test_a_lease_that_ends_before_the_commit_keeps_the_ingest(store: ContentStore, lease: str) -> None:
    ingest = store.open_ingest(BLUE, "r", lease)
    ingest.append(DATA)
    store.database.write(lambda tx: leases.remove(tx, BLUE, lease))
    with pytest.raises(NotFound, match="lease does not exist"):
        ingest.commit(0, "", {})
    assert list(store.files.blobs()) == []
    again = store.open_ingest(BLUE, "r")
    assert again.status().offset == 11
    assert again.commit(11, HELLO, {}) == HELLO
    assert read(store, BLUE) == DATA


# --- opening (6.3), leases (1.3), lifetime (6.7)


def test_a_ref_is_needed(store: ContentStore) -> None:
    with pytest.raises(InvalidArgument):
        store.open_ingest(BLUE, "")


def test_opening_what_is_recorded_holds_it(store: ContentStore, lease: str) -> None:
    put(store, BLUE)
    with pytest.raises(AlreadyExists):
        store.open_ingest(BLUE, "r", lease, expected=HELLO)
    assert held(store, lease) == [Resource("content", HELLO)]
    with pytest.raises(NotFound, match="lease"):
        store.open_ingest(BLUE, "r", "unknown", expected=HELLO)


@pytest.mark.parametrize("unknown", ["nope", ""])
def test_an_unknown_lease_writes_nothing(store: ContentStore, unknown: str) -> None:
    with pytest.raises(NotFound, match="lease does not exist"):
        store.open_ingest(BLUE, "r", unknown)
    assert (ingest_row(store), list(store.files.ingests())) == (None, [])
    assert store.database.read(namespaces.all_labels) == []


def test_an_unknown_lease_comes_before_a_locked_ref(store: ContentStore) -> None:
    ingest = store.open_ingest(BLUE, "r")
    with pytest.raises(NotFound):
        store.open_ingest(BLUE, "r", "nope")
    with pytest.raises(Unavailable, match="ref blue/1/r locked for"):
        store.open_ingest(BLUE, "r")
    ingest.close()


def test_the_lease_holds_the_ingest_then_the_blob(store: ContentStore, lease: str) -> None:
    ingest = store.open_ingest(BLUE, "r", lease)
    assert held(store, lease) == [Resource("ingests", "r")]
    ingest.append(DATA)
    ingest.commit(0, "", {})
    assert held(store, lease) == [Resource("content", HELLO)]
    store.delete(BLUE, HELLO, lease)
    assert held(store, lease) == []


def test_abort_lets_the_lease_go(store: ContentStore, lease: str) -> None:
    store.open_ingest(BLUE, "r", lease).close()
    store.abort(BLUE, "r", lease)
    assert held(store, lease) == []
    with pytest.raises(NotFound):
        store.abort(BLUE, "r", lease)


def test_without_a_lease_it_expires_a_day_after_the_latest_open(store: ContentStore, lease: str) -> None:
    store.open_ingest(BLUE, "r").close()
    first = ingest_row(store)
    assert first is not None
    assert first.expires_at == first.updated_at + 24 * 3600 * SECOND
    store.open_ingest(BLUE, "r").close()
    second = ingest_row(store)
    assert second is not None
    assert (second.started_at, second.expires_at > first.expires_at) == (first.started_at, True)
    store.open_ingest(BLUE, "r", lease).close()
    third = ingest_row(store)
    assert third is not None
    assert third.expires_at is None


def test_what_outlived_a_deleted_namespace_is_not_resumed(store: ContentStore) -> None:
    ingest = store.open_ingest(BLUE, "r", total=3)
    ingest.append(b"old")
    ingest.close()
    store.database.write(lambda tx: namespaces.remove(tx, BLUE))
    assert store.statuses(BLUE) == []
    again = store.open_ingest(BLUE, "r")
    assert (again.status().offset, again.status().total) == (0, 0)
    again.close()


def test_status_and_list(store: ContentStore) -> None:
    for ref in ("a", "b"):
        ingest = store.open_ingest(BLUE, ref, total=11)
        ingest.append(b"hello")
        ingest.close()
    status = store.status(BLUE, "a")
    assert (status.ref, status.offset, status.total) == ("a", 5, 11)
    assert status.updated_at >= status.started_at
    assert sorted(s.ref for s in store.statuses(BLUE)) == ["a", "b"]
    assert [s.ref for s in store.statuses(BLUE, parse_all(["ref==b"]))] == ["b"]
    assert store.statuses(RED) == []
    with pytest.raises(NotFound, match='could not get status for ref "c": '):
        store.status(BLUE, "c")


# --- sharing (6.5)


def test_a_shared_blob_needs_no_bytes(store: ContentStore) -> None:
    put(store, BLUE)
    ingest = store.open_ingest(RED, "r", expected=HELLO, total=11)
    assert (ingest.status().offset, ingest.digest()) == (11, HELLO)
    with pytest.raises(NotFound):
        store.status(RED, "r")
    assert store.statuses(RED) == []
    assert ingest.commit(11, HELLO, {"b": "2"}) == HELLO
    assert store.info(RED, HELLO).labels == {"b": "2"}
    assert ingest_row(store) is None


@pytest.mark.parametrize(("total", "expected"), [(12, HELLO), (11, of_bytes(b"other"))])
def test_committing_something_else_of_a_shared_blob(store: ContentStore, total: int, expected: str) -> None:
    put(store, BLUE)
    ingest = store.open_ingest(RED, "r", expected=HELLO)
    with pytest.raises(FailedPrecondition):
        ingest.commit(total, expected, {})
    ingest.close()


def test_another_announced_size_is_not_shared(store: ContentStore) -> None:
    put(store, BLUE)
    ingest = store.open_ingest(RED, "r", expected=HELLO, total=12)
    assert ingest.status().offset == 0
    ingest.close()


def test_writing_on_copies_the_shared_bytes(store: ContentStore) -> None:
    put(store, BLUE)
    ingest = store.open_ingest(RED, "r", expected=HELLO)
    ingest.append(b"!")
    assert (ingest.status().offset, ingest.digest()) == (12, of_bytes(DATA + b"!"))
    assert store.status(RED, "r").offset == 12
    assert ingest.commit(0, "", {}) == of_bytes(DATA + b"!")
    assert read(store, BLUE) == DATA


def test_truncating_begins_without_the_shared_bytes(store: ContentStore) -> None:
    put(store, BLUE)
    ingest = store.open_ingest(RED, "r", expected=HELLO)
    ingest.truncate()
    ingest.append(b"mine")
    assert ingest.digest() == of_bytes(b"mine")
    ingest.close()
    assert store.status(RED, "r").offset == 4


def test_a_shared_ingest_keeps_the_bytes_of_a_deleted_blob(store: ContentStore) -> None:
    put(store, BLUE)
    ingest = store.open_ingest(RED, "r", expected=HELLO)
    store.delete(BLUE, HELLO)
    ingest.commit(0, HELLO, {})
    assert read(store, RED) == DATA


def test_an_aborted_shared_ingest_lets_the_bytes_go(store: ContentStore) -> None:
    put(store, BLUE)
    store.open_ingest(RED, "r", expected=HELLO).close()
    store.delete(BLUE, HELLO)
    assert store.files.size(HELLO) == 11
    store.abort(RED, "r")
    assert store.files.size(HELLO) is None


def test_isolated_shares_only_what_a_namespace_opens(isolated: ContentStore) -> None:
    put(isolated, BLUE)

    def offset(shareable: str) -> int:
        isolated.database.write(
            lambda tx: namespaces.update(tx, BLUE, {"containerd.io/namespace.shareable": shareable})
        )
        ingest = isolated.open_ingest(RED, "r", expected=HELLO)
        ingest.close()
        return ingest.status().offset

    assert [offset(""), offset("yes"), offset("true")] == [0, 0, 11]


# --- lost bytes, races


def test_a_blob_that_lost_its_bytes_acts_as_absent_until_written_again(store: ContentStore) -> None:
    put(store, BLUE, a="1")
    store.files.remove(HELLO)
    for look in (store.info, store.open_blob):
        with pytest.raises(NotFound):
            look(BLUE, HELLO)
    assert store.infos(BLUE) == []
    put(store, BLUE, b="2")
    assert read(store, BLUE) == DATA
    assert store.info(BLUE, HELLO).labels == {"a": "1", "b": "2"}


def test_a_blob_cut_short_is_replaced(store: ContentStore) -> None:
    put(store, BLUE)
    path = store.files.blob_path(HELLO)
    path.chmod(0o600)
    path.write_bytes(b"hello")
    put(store, BLUE)
    assert read(store, BLUE) == DATA


def test_commits_and_deletes_of_one_blob_at_once(store: ContentStore) -> None:
    """Whatever the order, a recorded blob has its bytes."""
    failures: list[BaseException] = []

    def churn(namespace: Namespace) -> None:
        try:
            for round_ in range(25):
                put(store, namespace, ref=f"r{round_}")
                assert read(store, namespace) == DATA
                store.delete(namespace, HELLO)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(Namespace(f"n{n}"),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert list(store.files.blobs()) == []
    assert list(store.files.ingests()) == []


@pytest.fixture(autouse=True)
def _no_lock_is_left(store: ContentStore) -> Iterator[None]:
    yield
    rows = store.database.read(ingests.everywhere)
    for namespace, ref, shares in rows:
        if shares is None:
            opened: Ingest = store.open_ingest(namespace, ref)
            opened.close()
