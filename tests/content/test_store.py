"""What every place for bytes must do (supervisor.content.store), and the layout of the local one (6.6)."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.content.local import LocalStore
from supervisor.content.store import Store, StoredBlob
from supervisor.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from supervisor.model.digest import Digest, digest, of_bytes

HELLO = of_bytes(b"hello world")


def commit(store: Store, ref: str, data: bytes, expected: str = "") -> Digest:
    writer = store.writer(ref)
    writer.append(data)
    found = writer.seal(0, expected)
    writer.install(found, replace=False)
    writer.discard()
    return found


def read(store: Store, wanted: Digest) -> bytes:
    with store.open(wanted) as file:
        return file.read()


class StoreContract:
    """Run on every implementation: subclass it with a fixture `store`."""

    def test_a_blob_is_there_after_its_commit(self, store: Store) -> None:
        assert commit(store, "r", b"hello world") == HELLO
        assert (store.size(HELLO), read(store, HELLO)) == (11, b"hello world")
        assert list(store.blobs()) == [StoredBlob(HELLO, 11)]
        assert list(store.ingests()) == []

    def test_an_empty_blob(self, store: Store) -> None:
        empty = commit(store, "r", b"")
        assert (store.size(empty), read(store, empty)) == (0, b"")

    def test_the_expected_algorithm_is_used(self, store: Store) -> None:
        wanted = of_bytes(b"hello world", "sha512")
        assert commit(store, "r", b"hello world", wanted) == wanted
        assert read(store, wanted) == b"hello world"

    def test_a_missing_blob(self, store: Store) -> None:
        assert store.size(HELLO) is None
        assert store.remove(HELLO) is False
        with pytest.raises(NotFound):
            store.open(HELLO)

    def test_a_removed_blob_stays_readable_for_who_has_it_open(self, store: Store) -> None:
        commit(store, "r", b"hello world")
        with store.open(HELLO) as file:
            assert store.remove(HELLO) is True
            assert file.read() == b"hello world"
        assert store.size(HELLO) is None

    def test_an_ingest_is_resumed_where_it_stands(self, store: Store) -> None:
        writer = store.writer("r", 11)
        writer.append(b"hello ")
        started = writer.status().started_at
        writer.close()
        assert store.status("r").offset == 6
        again = store.writer("r", 11)
        assert (again.status().offset, again.status().started_at, again.digest()) == (
            6,
            started,
            of_bytes(b"hello "),
        )
        again.append(b"world")
        assert again.seal(11, HELLO) == HELLO
        again.close()

    def test_a_ref_is_open_once(self, store: Store) -> None:
        writer = store.writer("r")
        with pytest.raises(Unavailable, match=r"ref r locked for .* \(since "):
            store.writer("r")
        store.writer("other").close()
        writer.close()
        writer.close()
        store.writer("r").close()

    def test_another_announced_size_starts_over(self, store: Store) -> None:
        first = store.writer("r", 11)
        first.append(b"hello")
        first.close()
        started = store.status("r").started_at
        second = store.writer("r", 12)
        assert (second.status().offset, second.status().total) == (0, 12)
        assert second.status().started_at > started
        second.close()
        unannounced = store.writer("r")
        assert unannounced.status().total == 12
        unannounced.close()

    def test_truncate_starts_from_zero(self, store: Store) -> None:
        writer = store.writer("r")
        writer.append(b"rubbish, and longer than what follows")
        writer.truncate()
        writer.append(b"hello world")
        assert writer.seal(11, HELLO) == HELLO
        writer.close()
        assert store.status("r").offset == 11

    @pytest.mark.parametrize(("total", "expected"), [(10, ""), (0, of_bytes(b"other"))])
    def test_what_was_announced_must_be_there(self, store: Store, total: int, expected: str) -> None:
        writer = store.writer("r")
        writer.append(b"hello world")
        with pytest.raises(FailedPrecondition):
            writer.seal(total, expected)
        assert writer.seal(11, HELLO) == HELLO
        writer.close()

    def test_a_malformed_expected_digest(self, store: Store) -> None:
        writer = store.writer("r")
        with pytest.raises(InvalidArgument):
            writer.seal(0, "no-colon")
        writer.close()

    def test_a_digest_that_no_bytes_can_have_does_not_match(self, store: Store) -> None:
        writer = store.writer("r")
        with pytest.raises(FailedPrecondition):
            writer.seal(0, "sha256:bad")
        writer.close()

    def test_abort_removes_also_under_a_writer(self, store: Store) -> None:
        writer = store.writer("r")
        writer.append(b"hello")
        store.abort("r")
        with pytest.raises(NotFound):
            store.status("r")
        with pytest.raises(NotFound):
            store.abort("r")
        writer.append(b" world")
        with pytest.raises(Exception, match="aborted"):
            writer.install(writer.seal(0, ""), replace=False)
        writer.close()
        fresh = store.writer("r")
        assert fresh.status().offset == 0
        fresh.close()

    def test_a_closed_writer_refuses(self, store: Store) -> None:
        writer = store.writer("r")
        writer.close()
        with pytest.raises(FailedPrecondition, match="open the ref again"):
            writer.append(b"x")

    def test_exclusive_excludes(self, store: Store) -> None:
        order: list[str] = []

        def second() -> None:
            with store.exclusive(HELLO):
                order.append("second")

        with store.exclusive(HELLO):
            thread = threading.Thread(target=second)
            thread.start()
            with store.exclusive(of_bytes(b"another")):
                order.append("first")
        thread.join(10)
        assert order == ["first", "second"]


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[LocalStore]:
        before = descriptors()
        yield LocalStore(tmp_path)
        assert descriptors() == before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_layout_is_containerds(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    writer = store.writer("ns/1/r", 11)
    writer.append(b"hello world")
    folder = tmp_path / "ingest" / hashlib.sha256(b"ns/1/r").hexdigest()
    assert sorted(p.name for p in folder.iterdir()) == ["data", "ref", "startedat", "total", "updatedat"]
    assert ((folder / "ref").read_text(), (folder / "total").read_text()) == ("ns/1/r", "11")
    writer.install(writer.seal(11, ""), replace=False)
    writer.discard()
    blob = tmp_path / "blobs" / "sha256" / HELLO.removeprefix("sha256:")
    assert blob.stat().st_mode & 0o7777 == 0o444
    assert not folder.exists()


def test_without_an_announced_size_there_is_no_total_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.writer("r").close()
    assert not list(tmp_path.glob("ingest/*/total"))
    assert store.status("r").total == 0


def test_an_ingest_whose_bytes_are_a_blob_is_not_written_on(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    writer = store.writer("r")
    writer.append(b"hello world")
    writer.install(writer.seal(0, ""), replace=False)
    writer.close()  # as if removing the folder had failed
    again = store.writer("r")
    assert again.status().offset == 0
    again.append(b"something else")
    again.close()
    assert read(store, HELLO) == b"hello world"


def test_a_half_written_description_costs_no_bytes(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    writer = store.writer("r", 11)
    writer.append(b"hello ")
    writer.close()
    for name in ("startedat", "updatedat", "total"):
        next(tmp_path.glob(f"ingest/*/{name}")).write_text("")
    again = store.writer("r")
    assert (again.status().offset, again.status().total) == (6, 0)
    again.close()


def test_sweep_removes_what_is_not_kept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commit(store, "done", b"hello world")
    for ref in ("keep", "drop"):
        store.writer(ref).close()
    (tmp_path / "blobs" / "sha256" / ".half").write_bytes(b"x")
    assert store.sweep(frozenset({"keep"})) == 1
    assert [s.ref for s in store.ingests()] == ["keep"]
    assert [b.digest for b in store.blobs()] == [HELLO]
    assert not (tmp_path / "blobs" / "sha256" / ".half").exists()


def test_a_full_disk_is_told_and_the_ingest_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    writer = store.writer("r")
    writer.append(b"hello ")
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        real(descriptor, bytes(data)[:2], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(ResourceExhausted, match="free some space and resume"):
            writer.append(b"world")
    again = store.writer("r")
    assert (again.status().offset, again.digest()) == (8, of_bytes(b"hello wo"))
    again.append(b"rld")
    assert again.seal(11, HELLO) == HELLO
    again.close()


@pytest.mark.root
def test_a_really_full_disk(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], check=True)
    try:
        store = LocalStore(tmp_path)
        writer = store.writer("r")
        with pytest.raises(ResourceExhausted):
            writer.append(bytes(4 << 20))
        assert 0 < store.status("r").offset <= 1 << 20
        store.abort("r")
        commit(store, "r", b"hello world")
        assert read(store, HELLO) == b"hello world"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


WRITE_AND_WAIT = """
import sys
from pathlib import Path
from supervisor.content.local import LocalStore
writer = LocalStore(Path(sys.argv[1])).writer("r", 11)
writer.append(b"hello ")
print("written", flush=True)
sys.stdin.read()
"""


def test_an_ingest_survives_a_killed_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_WAIT, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()
    store = LocalStore(tmp_path)
    assert (store.status("r").offset, store.status("r").total) == (6, 11)
    writer = store.writer("r", 11)
    writer.append(b"world")
    assert writer.seal(11, HELLO) == HELLO
    writer.close()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=4096), max_size=8), st.data())
def test_however_it_is_cut_the_digest_is_that_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], data: st.DataObject
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("content"))
    writer = store.writer("r")
    for piece in pieces:
        writer.append(piece)
        if data.draw(st.booleans()):
            writer.close()
            writer = store.writer("r")
    assert writer.seal(0, "") == of_bytes(b"".join(pieces))
    writer.close()


def test_many_writers_of_one_blob(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    errors: list[BaseException] = []

    def guarded(action: Callable[[], object]) -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=guarded, args=(lambda n=n: commit_exclusively(store, f"r{n}"),))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert list(store.blobs()) == [StoredBlob(HELLO, 11)]


def commit_exclusively(store: LocalStore, ref: str) -> None:
    writer = store.writer(ref)
    writer.append(b"hello world")
    found = writer.seal(0, HELLO)
    with store.exclusive(found):
        writer.install(found, replace=False)
    writer.discard()


def test_a_file_that_is_no_blob_is_passed_over(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "blobs" / "sha256").mkdir()
    (tmp_path / "blobs" / "sha256" / "README").write_text("x")
    (tmp_path / "blobs" / "md5").mkdir()
    assert list(store.blobs()) == []
    assert store.size(digest(HELLO)) is None
