"""What a start does about content that a crash left disagreeing; the crashes are real (SIGKILL)."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.content.local import LocalStore
from supervisor.metadata.content_reconcile import reconcile
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.database import Database
from supervisor.model.digest import of_bytes
from supervisor.model.identifiers import Namespace

BLUE = Namespace("blue")
DATA = b"hello world"
HELLO = of_bytes(DATA)


@contextmanager
def opened(root: Path) -> Iterator[ContentStore]:
    with Database(root / "metadata.db") as database:
        yield ContentStore(database, LocalStore(root / "content"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContentStore]:
    with opened(tmp_path) as store:
        yield store


def put(store: ContentStore, data: bytes = DATA, namespace: Namespace = BLUE) -> None:
    ingest = store.open_ingest(namespace, "put")
    ingest.append(data)
    ingest.commit(0, "", {})


def test_a_store_in_order_is_left_alone(store: ContentStore) -> None:
    put(store)
    ingest = store.open_ingest(BLUE, "r")
    ingest.append(b"hello")
    ingest.close()
    shared = store.open_ingest(Namespace("red"), "shared", expected=HELLO)
    shared.close()
    report = reconcile(store)
    assert (report.collected, report.lost, report.ingests_removed, report.ingests_dropped) == ((), (), 0, ())
    assert store.status(BLUE, "r").offset == 5
    assert store.has(BLUE, HELLO)


def test_a_file_without_a_record_is_collected(store: ContentStore) -> None:
    writer = store.files.writer("blue/1/r")
    writer.append(DATA)
    writer.install(writer.seal(0, ""), replace=False)
    writer.close()
    report = reconcile(store)
    assert (report.collected, report.ingests_removed) == ((HELLO,), 1)
    assert list(store.files.blobs()) == []


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_record_that_lost_its_bytes_is_reported_and_kept(store: ContentStore, damage: str) -> None:
    put(store)
    put(store, b"fine")
    path = store.files.blob_path(HELLO)
    path.unlink()
    if damage == "short":
        path.write_bytes(b"hello")
    assert reconcile(store).lost == ((BLUE, HELLO),)
    assert [i.digest for i in store.infos(BLUE)] == [of_bytes(b"fine")]
    path.unlink(missing_ok=True)
    path.write_bytes(DATA)
    assert reconcile(store).lost == ()
    assert store.has(BLUE, HELLO)


def test_ingests_of_which_half_is_missing_go(store: ContentStore) -> None:
    store.open_ingest(BLUE, "row only").close()
    store.files.abort("blue/1/row only")
    store.files.writer("blue/1/folder only").close()
    put(store)
    store.open_ingest(Namespace("red"), "shares what is lost", expected=HELLO).close()
    store.files.remove(HELLO)
    report = reconcile(store)
    assert set(report.ingests_dropped) == {(BLUE, "row only"), (Namespace("red"), "shares what is lost")}
    assert report.ingests_removed == 1
    assert list(store.files.ingests()) == []
    assert reconcile(store).ingests_dropped == ()


KILL_ITSELF = """
import os, signal, sys
from pathlib import Path
from supervisor.content.ingest import IngestWriter
from supervisor.content.local import LocalStore
from supervisor.metadata import content, ingests
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.database import Database
from supervisor.model.identifiers import Namespace

root, owner, name, when = Path(sys.argv[1]), *sys.argv[2].split("."), sys.argv[3]
target = {"writer": IngestWriter, "files": LocalStore, "database": Database}[owner]
original = getattr(target, name)

def deadly(*args, **kwargs):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

store = ContentStore(Database(root / "metadata.db"), LocalStore(root / "content"))
ingest = store.open_ingest(Namespace("blue"), "r")
ingest.append(b"hello world")
if sys.argv[4] == "delete":
    digest = ingest.commit(11, "", {"a": "1"})
    setattr(target, name, deadly)
    store.delete(Namespace("blue"), digest)
else:
    setattr(target, name, deadly)
    ingest.commit(11, "", {"a": "1"})
"""


def kill_at(root: Path, what: str, when: str, operation: str) -> None:
    run = subprocess.run([sys.executable, "-c", KILL_ITSELF, root, what, when, operation], check=False)
    assert run.returncode == -9


@pytest.mark.parametrize(
    ("what", "when"),
    [
        ("writer.seal", "before"),
        ("writer.seal", "after"),
        ("writer.install", "after"),
        ("writer._link", "after"),
        ("database.write", "before"),
        ("database.write", "after"),
        ("writer.discard", "before"),
        ("writer.discard", "after"),
    ],
)
def test_a_commit_killed_anywhere_is_done_or_can_be_done_again(tmp_path: Path, what: str, when: str) -> None:
    kill_at(tmp_path, what, when, "commit")
    with opened(tmp_path) as store:
        reconcile(store)
        if not store.has(BLUE, HELLO):
            again = store.open_ingest(BLUE, "r")
            assert again.status().offset == 11
            assert again.commit(11, HELLO, {"a": "1"}) == HELLO
        assert store.info(BLUE, HELLO).labels == {"a": "1"}
        with store.open_blob(BLUE, HELLO)[0] as file:
            assert file.read() == DATA
        assert list(store.files.ingests()) == []
        assert store.statuses(BLUE) == []


@pytest.mark.parametrize(
    ("what", "when"), [("database.write", "before"), ("database.write", "after"), ("files.remove", "after")]
)
def test_a_delete_killed_anywhere_is_done_or_not_begun(tmp_path: Path, what: str, when: str) -> None:
    kill_at(tmp_path, what, when, "delete")
    with opened(tmp_path) as store:
        reconcile(store)
        recorded = [i.digest for i in store.infos(BLUE)]
        assert recorded == [b.digest for b in store.files.blobs()]
        assert bool(recorded) == (when == "before")
