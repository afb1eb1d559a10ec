"""The journal of events (containerd: core/events; there nothing is kept). Rules: contract 10.

Events of this daemon's own changes are written by `Transaction.emit`; here are those that others bring.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select

from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import EventRow
from supervisor.model.any import Any
from supervisor.model.event import Envelope
from supervisor.model.identifiers import Namespace, check_topic, namespace

KEPT = 100_000
"""Events that the journal keeps at most."""

_COLUMNS = EventRow.__table__.columns


def publish(tx: Transaction, namespace: Namespace, topic: str, event: Any | None) -> None:
    """Write an event of the caller's, with the time of now; raises InvalidArgument for a malformed topic."""
    tx.journal(Envelope(tx.now, namespace, check_topic(topic), event))


def forward(tx: Transaction, envelope: Envelope) -> None:
    """Write an event as it came; raises InvalidArgument for a malformed namespace or topic."""
    namespace(envelope.namespace)
    check_topic(envelope.topic)
    tx.journal(envelope)


def since(connection: Connection, sequence: int, limit: int) -> list[Envelope]:
    """At most `limit` events that follow the one of that sequence number, oldest first."""
    query = select(*_COLUMNS).where(EventRow.sequence > sequence).order_by(EventRow.sequence).limit(limit)
    return [
        Envelope(row["timestamp"], row["namespace"], row["topic"], row["event"], row["sequence"])
        for row in connection.execute(query).mappings()
    ]


def last_sequence(connection: Connection) -> int:
    """The sequence number of the newest event, 0 when there is none."""
    return connection.execute(select(func.coalesce(func.max(EventRow.sequence), 0))).scalar_one()


def trim(tx: Transaction, keep: int = KEPT) -> int:
    """Forget all but the newest `keep` events; how many were forgotten."""
    oldest = last_sequence(tx.connection) - keep
    return tx.execute(delete(EventRow).where(EventRow.sequence <= oldest)).rowcount
