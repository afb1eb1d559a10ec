"""The steps of a Write stream, contract 6.3 (letters are its table's), by feeding messages."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.content.local import LocalStore
from supervisor.content.store import Status, Writer
from supervisor.content.write import Action, Answer, Request, WriteStream
from supervisor.errors import (
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    OutOfRange,
    Unavailable,
)
from supervisor.model.digest import Digest, of_bytes

HELLO = of_bytes(b"hello world")
STAT, WRITE, COMMIT = Action.STAT, Action.WRITE, Action.COMMIT


class PlainIngest:
    """A writer of a store without namespaces, where what is stored is recorded."""

    def __init__(self, store: LocalStore, writer: Writer) -> None:
        self._store, self._writer = store, writer

    def status(self) -> Status:
        return self._writer.status()

    def digest(self) -> Digest:
        return self._writer.digest()

    def append(self, data: bytes) -> None:
        self._writer.append(data)

    def truncate(self) -> None:
        self._writer.truncate()

    def give_up_if_recorded(self, expected: str) -> bool:
        if self._store.size(Digest(expected)) is None:
            return False
        self._writer.discard()
        return True

    def commit(self, total: int, expected: str, labels: Mapping[str, str]) -> Digest:
        found = self._writer.seal(total, expected)
        self._writer.install(found, replace=False)
        self._writer.discard()
        return found

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def start(store: LocalStore) -> Iterator[Callable[[], WriteStream]]:
    streams: list[WriteStream] = []

    def begin() -> WriteStream:
        streams.append(WriteStream(lambda ref, total, expected: PlainIngest(store, store.writer(ref, total))))
        return streams[-1]

    yield begin
    for stream in streams:
        stream.close()


Start = Callable[[], WriteStream]


def test_the_first_message_names_the_ref(start: Start) -> None:
    with pytest.raises(InvalidArgument):
        start().receive(Request(STAT))


def test_later_refs_are_ignored(start: Start, store: LocalStore) -> None:
    stream = start()
    stream.receive(Request(WRITE, ref="r", data=b"hello "))
    stream.receive(Request(WRITE, ref="other", offset=6, data=b"world"))
    assert [s.ref for s in store.ingests()] == ["r"]


def test_a_expected_that_exists_by_now_gives_up(start: Start, store: LocalStore) -> None:
    stream = start()
    stream.receive(Request(WRITE, ref="r", data=b"hello "))
    start().receive(Request(COMMIT, ref="faster", data=b"hello world"))
    with pytest.raises(AlreadyExists):
        stream.receive(Request(WRITE, offset=6, data=b"world", expected=HELLO))
    assert list(store.ingests()) == []


def test_a_expected_replaces_what_was_remembered(start: Start) -> None:
    stream = start()
    stream.receive(Request(WRITE, ref="r", data=b"hello world", expected=of_bytes(b"wrong")))
    assert stream.receive(Request(COMMIT, offset=11, expected=HELLO)).digest == HELLO


def test_b_a_total_replaces_what_was_remembered_zero_does_not(start: Start) -> None:
    stream = start()
    stream.receive(Request(WRITE, ref="r", data=b"hello world", total=5))
    stream.receive(Request(STAT, total=12))
    assert stream.receive(Request(STAT)).total == 12
    with pytest.raises(FailedPrecondition):
        stream.receive(Request(COMMIT, offset=11))


def test_c_stat_answers_the_remembered_total_and_the_times(start: Start, store: LocalStore) -> None:
    stream = start()
    stream.receive(Request(STAT, ref="r", total=11))
    answer = stream.receive(Request(STAT, total=12))
    stored = store.status("r")
    assert (answer.offset, answer.total, answer.digest) == (0, 12, of_bytes(b""))
    assert (answer.started_at, stored.total) == (stored.started_at, 11)


def test_after_a_stat_times_and_total_stay_in_the_answers(start: Start) -> None:
    stream = start()
    without = stream.receive(Request(WRITE, ref="r", data=b"a", total=9))
    assert (without.started_at, without.updated_at, without.total) == (None, None, 0)
    stat = stream.receive(Request(STAT))
    later = stream.receive(Request(WRITE, offset=1, data=b"b", total=10))
    assert (later.started_at, later.updated_at, later.total) == (stat.started_at, stat.updated_at, 9)


@pytest.mark.parametrize("action", [WRITE, COMMIT])
@pytest.mark.parametrize("offset", [1, 4, 6, 1 << 40])
def test_d_an_offset_must_be_the_current_one(
    start: Start, store: LocalStore, action: int, offset: int
) -> None:
    stream = start()
    stream.receive(Request(WRITE, ref="r", data=b"hello"))
    with pytest.raises(OutOfRange, match="current offset 5"):
        stream.receive(Request(action, offset=offset, data=b"x"))
    assert store.status("r").offset == 5


def test_e_offset_zero_starts_over_even_without_data(start: Start) -> None:
    stream = start()
    stream.receive(Request(WRITE, ref="r", data=b"hello"))
    assert stream.receive(Request(WRITE)) == Answer(WRITE, offset=0, digest=of_bytes(b""))


def test_e_a_commit_at_offset_zero_starts_over_too(start: Start) -> None:
    stream = start()
    stream.receive(Request(WRITE, ref="r", data=b"hello"))
    assert stream.receive(Request(COMMIT)) == Answer(COMMIT, offset=0, digest=of_bytes(b""))


def test_g_write_answers_offset_and_running_digest_without_looking_at_the_total(start: Start) -> None:
    stream = start()
    answer = stream.receive(Request(WRITE, ref="r", data=b"hello world", total=3))
    assert answer == Answer(WRITE, offset=11, digest=HELLO)


def test_h_commit_with_data_ends_the_stream(start: Start, store: LocalStore) -> None:
    stream = start()
    answer = stream.receive(Request(COMMIT, ref="r", data=b"hello world", expected=HELLO, total=11))
    assert answer == Answer(COMMIT, offset=11, digest=HELLO)
    assert stream.committed
    assert store.size(HELLO) == 11


def test_h_the_digest_answered_is_of_the_expected_algorithm(start: Start) -> None:
    wanted = of_bytes(b"hello world", "sha384")
    assert start().receive(Request(COMMIT, ref="r", data=b"hello world", expected=wanted)).digest == wanted


def test_i_other_actions_are_echoed_and_do_nothing(start: Start) -> None:
    stream = start()
    before = stream.receive(Request(WRITE, ref="r", data=b"hello"))
    answer = stream.receive(Request(7, offset=99, data=b"x"))
    assert answer == Answer(7, offset=before.offset, digest=before.digest)


def test_i_another_action_that_opens_the_ref_tells_where_it_stands(start: Start) -> None:
    first = start()
    first.receive(Request(WRITE, ref="r", data=b"hello"))
    first.close()
    assert start().receive(Request(7, ref="r")) == Answer(7, offset=5)


def test_an_error_ends_the_stream_and_frees_the_ref(start: Start, store: LocalStore) -> None:
    stream = start()
    stream.receive(Request(WRITE, ref="r", data=b"hello"))
    with pytest.raises(Unavailable):
        start().receive(Request(STAT, ref="r"))
    with pytest.raises(OutOfRange):
        stream.receive(Request(WRITE, offset=99, data=b"x"))
    with pytest.raises(Cancelled):
        stream.receive(Request(WRITE, offset=5, data=b"x"))
    assert start().receive(Request(STAT, ref="r")).offset == 5


def test_a_failed_commit_can_be_resumed(start: Start) -> None:
    with pytest.raises(FailedPrecondition):
        start().receive(Request(COMMIT, ref="r", data=b"hello ", expected=HELLO, total=11))
    stream = start()
    assert stream.receive(Request(STAT, ref="r", total=11)).offset == 6
    assert stream.receive(Request(COMMIT, offset=6, data=b"world", expected=HELLO)).digest == HELLO


def test_closing_before_the_first_message_ends_it(start: Start) -> None:
    stream = start()
    stream.close()
    with pytest.raises(Cancelled):
        stream.receive(Request(STAT, ref="r"))


messages = st.lists(
    st.tuples(st.sampled_from([0, 1, 1, 1, 5]), st.sampled_from(["zero", "current"]), st.binary(max_size=64)),
    max_size=12,
)


@settings(deadline=None, max_examples=100)
@given(messages)
def test_the_bytes_are_those_since_the_last_offset_zero(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[int, str, bytes]]
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("content"))
    stream = WriteStream(lambda ref, total, expected: PlainIngest(store, store.writer(ref, total)))
    bytes_ = b""
    for action, where, data in sent:
        offset = len(bytes_) if where == "current" else 0
        answer = stream.receive(Request(action, ref="r", offset=offset, data=data))
        if action == WRITE:
            bytes_ = (bytes_ if offset else b"") + data
            assert answer.digest == f"sha256:{hashlib.sha256(bytes_).hexdigest()}"
            assert answer.offset == len(bytes_)
    stream.close()
