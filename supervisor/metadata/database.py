"""The SQLite file: one writer with group commit, many readers (architecture: "The store").

A single thread owns the only connection that writes and checkpoints. It takes all closures that
wait, runs each in a savepoint, commits them together (one fsync for many), tells the journal's new
events and only then settles their futures: an answered write is on disk, and whoever hears of an
event finds its change in the store. Writes that need not outlive the kernel are not waited for on
the disk, unless others share their commit: they outlive this process all the same. Readers are
`query_only` and never checkpoint.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any as Anything
from typing import Generic, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection, CursorResult, Engine, Executable, create_engine, event, insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from supervisor.errors import DataLoss, Internal, ResourceExhausted, SupervisorError, Unavailable
from supervisor.metadata import filtering, migrate
from supervisor.metadata.schema import EventRow
from supervisor.metadata.statements import Prepared, driver
from supervisor.model import instant
from supervisor.model.any import Any
from supervisor.model.event import Envelope
from supervisor.model.instant import Nanoseconds

T = TypeVar("T")
Told = Callable[[Sequence[Envelope]], None]
Observed = Callable[[int, int], None]
"""Is told of the writes of a commit: how many, and how many of them freed something (contract 11.4)."""

_JOURNAL = Prepared(insert(EventRow), ("timestamp", "namespace", "topic", "event", "recorded_at"))

MAX_BATCH = 256
"""Closures that share one commit at most; bounds how long the first of them waits."""

PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=10000",
    "cache_size=-16384",
    "wal_autocheckpoint=2500",  # pages: fewer checkpoints write a page that is changed often fewer times
)


@dataclass(slots=True)
class Transaction:
    """What a write is given: the connection, one instant for all its times, and the journal.

    `known` are namespaces that are in the store for certain, `touched` those that this write made sure of.
    """

    connection: Connection
    known: set[str] = field(default_factory=set)
    now: Nanoseconds = field(default_factory=instant.now)
    events: list[Envelope] = field(default_factory=list)
    freed: bool = False  # it deleted what may have kept other things: collection is due
    counted: bool = True  # it is a change of a client's, not one of collection
    touched: set[str] = field(default_factory=set)

    def execute(self, statement: Executable, parameters: Anything = None) -> CursorResult[Anything]:
        """Run one statement."""
        return self.connection.execute(statement, parameters)

    def emit(self, namespace: str, topic: str, message: Message) -> None:
        """Write an event of ours into the journal; it is told once this transaction is on disk."""
        payload = Any(message.DESCRIPTOR.full_name, message.SerializeToString())
        self.journal(Envelope(self.now, namespace, topic, payload))

    def journal(self, envelope: Envelope) -> None:
        """Write an event as it came, for instance from a shim."""
        values = {
            "timestamp": envelope.timestamp,
            "namespace": envelope.namespace,
            "topic": envelope.topic,
            "event": envelope.event,
            "recorded_at": self.now,
        }
        number = _JOURNAL.run(self.connection, values).lastrowid or 0
        self.events.append(
            Envelope(envelope.timestamp, envelope.namespace, envelope.topic, envelope.event, number)
        )


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Callable[[Transaction], T]
    future: Future[T]
    durable: bool
    outcome: T | None = None
    error: BaseException | None = None

    def settle(self) -> None:
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.outcome)  # type: ignore[arg-type]


class Database:
    """The store's file, opened and migrated; close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open or create the file at `path`; raises SupervisorError when it cannot be used."""
        self._path = path
        self._told: Told = lambda events: None
        self._settled: list[Callable[[], None]] = []
        self._observed: Observed = lambda writes, deletions: None
        self._writes = self._deletions = 0
        self._known: set[str] = set()
        self._synchronous = True
        self._jobs: queue.SimpleQueue[_Job[Anything] | None] = queue.SimpleQueue()
        self._next: _Job[Anything] | None = None
        self._closed = False
        with translating(f"open the store {path}"):
            path.touch(0o600)  # specs and labels hold secrets of containers; SQLite would make it 0644
            self._writer = _engine(path, read_only=False)
            self._connection = self._writer.connect()
            migrate.upgrade(self._connection)
        self._readers = _engine(path, read_only=True)
        self._idle: deque[Connection] = deque()
        self._thread = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._thread.start()

    def tell(self, told: Told) -> None:
        """Have `told` called, on the writer's thread and in order, with the events of each commit."""
        self._told = told

    def settled(self, settled: Callable[[], None]) -> None:
        """Have `settled` called, on the writer's thread, after all futures of a commit are settled."""
        self._settled.append(settled)

    def observe(self, observed: Observed) -> None:
        """Have `observed` called, on the writer's thread, with how many writes each commit had."""
        self._observed = observed

    def submit(self, work: Callable[[Transaction], T], *, durable: bool = True) -> Future[T]:
        """Queue a write. Its future settles once the commit is on disk, or with the error it raised.

        One that is not `durable`, which must tell no events, may be lost when the power fails.
        """
        if self._closed:
            raise Unavailable("the store is closing; try again when the daemon is back")
        future: Future[T] = Future()
        self._jobs.put(_Job(work, future, durable))
        return future

    def write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """Run a write and wait for its commit, as `submit` has it; not for the event loop's thread."""
        return self.submit(work, durable=durable).result()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run reads on one consistent view of the store."""
        with translating("read the store"):
            connection = self._reader()
            try:
                driver(connection).execute("BEGIN")
                return work(connection)
            finally:
                if connection.in_transaction():  # SQLAlchemy's, which it began within ours
                    connection.rollback()
                driver(connection).rollback()
                self._idle.append(connection)

    @property
    def changes(self) -> int:
        """How many rows were changed since the store was opened; for telling whether any were."""
        return driver(self._connection).total_changes

    def copy_to(self, target: sqlite3.Connection) -> None:
        """Fill `target` with one consistent state of the store.

        It is copied by a reader, in one step: the writer goes on meanwhile, and only its log grows.
        """
        connection = self._reader()
        try:
            with translating("copy the store"):
                driver(connection).backup(target)
        finally:
            self._idle.append(connection)

    def close(self) -> None:
        """Commit what was queued, then close; readers first."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        while self._idle:
            self._idle.pop().close()
        self._connection.close()
        self._writer.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _reader(self) -> Connection:
        """A connection that nobody uses now; there are as many as there were readers at once."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._readers.connect()

    def _write_loop(self) -> None:
        while True:
            batch, last = self._next_batch()
            if batch:
                self._commit(batch)
            if last:
                return

    def _next_batch(self) -> tuple[list[_Job[Anything]], bool]:
        """All jobs that wait, at least one; and whether the queue was closed behind them.

        Those in front that need not be on disk go by themselves: they would wait for it with the others.
        """
        batch: list[_Job[Anything]] = []
        job, self._next = self._next or self._jobs.get(), None
        while job is not None:
            if job.durable and batch and not batch[0].durable:
                self._next = job
                return batch, False
            if job.future.set_running_or_notify_cancel():
                batch.append(job)
            if len(batch) == MAX_BATCH or self._jobs.empty():
                return batch, False
            job = self._jobs.get()
        return batch, True

    def _commit(self, batch: list[_Job[Anything]]) -> None:
        try:
            with translating("write to the store"), self._transaction(any(job.durable for job in batch)):
                if len(batch) == 1:
                    events = self._run_alone(batch[0])
                else:
                    events = [event for job in batch for event in self._run(job)]
        except BaseException as error:
            self._known.clear()
            self._writes = self._deletions = 0
            for job in batch:
                job.error = job.error or error
        else:
            if events:
                self._told(events)
        for job in batch:
            job.settle()
        for settled in self._settled:
            settled()
        self._tell_observer()

    def _tell_observer(self) -> None:
        """Last, since nobody waits for it."""
        writes, deletions = self._writes, self._deletions
        self._writes = self._deletions = 0
        if writes:
            self._observed(writes, deletions)

    @contextmanager
    def _transaction(self, durable: bool) -> Iterator[None]:
        raw = driver(self._connection)
        if durable is not self._synchronous:
            raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._synchronous = durable
        raw.execute("BEGIN IMMEDIATE")
        try:
            yield
            raw.commit()
        finally:
            # SQLAlchemy may have begun one of its own within ours, as it does at its first statement.
            self._connection.rollback()
            raw.rollback()

    def _run(self, job: _Job[Anything]) -> list[Envelope]:
        """One job of several: if it fails, the others of its transaction stay."""
        raw = driver(self._connection)
        raw.execute("SAVEPOINT job")
        events: list[Envelope] = []
        try:
            events = self._run_alone(job)
        except BaseException as error:
            job.error = error
            if not raw.in_transaction:  # SQLite gave up all of it, as it does when the disk is full
                raise
            raw.execute("ROLLBACK TO job")
        raw.execute("RELEASE job")
        return events

    def _run_alone(self, job: _Job[Anything]) -> list[Envelope]:
        """A job with which the transaction stands and falls."""
        transaction = Transaction(self._connection, self._known)
        with translating("write to the store"):
            job.outcome = job.work(transaction)
            # An event's number must not come back after it was told, not even after a power failure.
            assert job.durable or not transaction.events
        self._known |= transaction.touched
        self._writes += transaction.counted
        self._deletions += transaction.freed
        return transaction.events


def _engine(path: Path, *, read_only: bool) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"check_same_thread": False, "timeout": 10},
        poolclass=NullPool,  # the readers' connections are kept by the Database
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, so that reads are one snapshot too
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        if read_only:
            connection.create_function(filtering.MATCHES, 2, filtering.matches, deterministic=True)
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA wal_autocheckpoint=0")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not driver(connection).in_transaction:
            connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


_DAMAGED = (
    "the file is damaged; restart the daemon, which then puts the newest backup in its place, or stop it and"
    " run `container-supervisor fsck` to see what is wrong (docs/recovery.md)"
)

_SQLITE_ERRORS: tuple[tuple[str, type[SupervisorError], str], ...] = (
    ("disk is full", ResourceExhausted, "free space on the file system of the daemon's root"),
    ("locked", Unavailable, "another process writes to the file; only the daemon may"),
    ("readonly", Unavailable, "the file or its folder is not writable"),
    ("disk I/O error", Unavailable, "the kernel's log names the cause"),
    ("malformed", DataLoss, _DAMAGED),
    ("not a database", DataLoss, _DAMAGED),
    ("unsupported file format", DataLoss, _DAMAGED),
)


@contextmanager
def translating(attempt: str) -> Iterator[None]:
    """Turn SQLite's and SQLAlchemy's errors into ours; what the closures raise themselves passes through."""
    try:
        yield
    except DBAPIError as error:
        raise _translated(attempt, error.orig or error) from error
    except sqlite3.Error as error:
        raise _translated(attempt, error) from error
    except SQLAlchemyError as error:
        raise Internal(f"{attempt}: {error}") from error


def _translated(attempt: str, error: BaseException) -> SupervisorError:
    text = str(error)
    if isinstance(error, sqlite3.IntegrityError):
        return Internal(f"{attempt}: {text}: a rule of the schema was broken; please report this")
    for sign, cls, advice in _SQLITE_ERRORS:
        if sign in text:
            return cls(f"{attempt}: {text}: {advice}")
    return Internal(f"{attempt}: {text}")
