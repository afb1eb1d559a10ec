"""The journal of events (containerd: core/events; there nothing is kept). Rules: contract 10.

Events of this daemon's own changes are written by `Transaction.emit`; here are those that others bring,
reading on from any place in the journal, and forgetting its oldest part.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, column, delete, func, select, table

from supervisor.errors import OutOfRange
from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import EventRow
from supervisor.metadata.statements import Prepared, Row
from supervisor.model.any import Any
from supervisor.model.event import Envelope
from supervisor.model.identifiers import Namespace, check_topic, namespace
from supervisor.model.instant import Nanoseconds

PAGE = 500
"""Events that are read or forgotten in one go at most."""

PAGE_BYTES = 4 << 20
"""Bytes of payloads behind which a page ends early; an event may be as large as a message."""

_SEQUENCES = table("sqlite_sequence", column("name"), column("seq"))
_NEWEST = Prepared(select(_SEQUENCES.c.seq).where(_SEQUENCES.c.name == EventRow.__tablename__))
_OLDEST = Prepared(select(func.min(EventRow.sequence).label("sequence")))
_SINCE = Prepared(
    select(*EventRow.__table__.columns)
    .where(EventRow.sequence > bindparam("cursor"))
    .order_by(EventRow.sequence)
    .limit(bindparam("at_most"))
)
_AGES = Prepared(
    select(EventRow.sequence, EventRow.recorded_at).order_by(EventRow.sequence).limit(bindparam("at_most"))
)
_FORGET = Prepared(delete(EventRow).where(EventRow.sequence <= bindparam("last")))


@dataclass(frozen=True, slots=True)
class Bounds:
    """The sequence numbers of the oldest event that is kept, and of the newest that there ever was."""

    oldest: int
    newest: int


def publish(tx: Transaction, namespace: Namespace, topic: str, event: Any | None) -> None:
    """Write an event of the caller's, with the time of now; raises InvalidArgument for a malformed topic."""
    tx.journal(Envelope(tx.now, namespace, check_topic(topic), event))


def forward(tx: Transaction, envelope: Envelope) -> None:
    """Write an event as it came; raises InvalidArgument for a malformed namespace or topic."""
    namespace(envelope.namespace)
    check_topic(envelope.topic)
    tx.journal(envelope)


def bounds(connection: Connection) -> Bounds:
    """Where the journal begins and ends; nothing is kept when `oldest` is beyond `newest`."""
    newest = last_sequence(connection)
    oldest = _OLDEST.one(connection, {}) or {}
    return Bounds(oldest.get("sequence") or newest + 1, newest)


def after(connection: Connection, cursor: int, at_most: int = PAGE) -> list[Envelope]:
    """The next events behind a cursor, some of them; none when it is at the end.

    Raises OutOfRange when what follows the cursor is not kept any more, or was never written.
    """
    kept = bounds(connection)
    if cursor > kept.newest:
        raise OutOfRange(
            f"cursor {cursor} is beyond the newest event, {kept.newest}: it is not one of this store;"
            f" subscribe again with cursor {kept.newest}, or without one"
        )
    if cursor + 1 < kept.oldest:
        raise OutOfRange(
            f"events behind cursor {cursor} are not kept any more, the oldest is {kept.oldest} (settings"
            f" events.keep and events.keep_age): look at what you follow anew, and subscribe again with"
            f" cursor {kept.oldest - 1}"
        )
    return since(connection, cursor, at_most)


def since(connection: Connection, sequence: int, limit: int) -> list[Envelope]:
    """At most `limit` events that follow the one of that sequence number, oldest first."""
    found, size = [], 0
    for row in _SINCE.each(connection, {"cursor": sequence, "at_most": limit}):
        envelope = _envelope(row)
        found.append(envelope)
        size += len(envelope.event.value) if envelope.event else 0
        if size >= PAGE_BYTES:
            break
    return found


def last_sequence(connection: Connection) -> int:
    """The sequence number of the newest event that there ever was, 0 when there was none."""
    row = _NEWEST.one(connection, {})
    return row["seq"] if row else 0


def trim(tx: Transaction, keep: int, before: Nanoseconds | None = None, at_most: int = PAGE) -> int:
    """Forget the oldest events, some at a time: those beyond the newest `keep`, or recorded before then.

    Only ever from the oldest on, so that what is kept has no holes. How many were forgotten; call again
    until none is.
    """
    surplus = last_sequence(tx.connection) - keep
    last = 0
    for row in _AGES.each(tx.connection, {"at_most": at_most}):
        if row["sequence"] > surplus and (before is None or row["recorded_at"] >= before):
            break
        last = row["sequence"]
    return _FORGET.run(tx.connection, {"last": last}).rowcount if last else 0


def _envelope(row: Row) -> Envelope:
    return Envelope(row["timestamp"], row["namespace"], row["topic"], row["event"], row["sequence"])
