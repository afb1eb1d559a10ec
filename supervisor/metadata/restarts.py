"""What the restart monitor remembers, and which containers concern it."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, and_, bindparam, select
from sqlalchemy.dialects.sqlite import insert

from supervisor.metadata import containers, namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import RestartRow
from supervisor.metadata.statements import Prepared
from supervisor.model.container import Container
from supervisor.model.fieldmask import MaskPath
from supervisor.model.filters import parse_all
from supervisor.model.identifiers import Namespace
from supervisor.model.restart import COUNT_LABEL, STATUS_LABEL, Attempts, restarts

_THIS = and_(RestartRow.namespace == bindparam("in_namespace"), RestartRow.container_id == bindparam("of_id"))
_GET = Prepared(select(RestartRow.count, RestartRow.last_at).where(_THIS))
_WRITE = insert(RestartRow)
_PUT = Prepared(
    _WRITE.on_conflict_do_update(
        index_elements=[RestartRow.namespace, RestartRow.container_id],
        set_={"count": _WRITE.excluded.count, "last_at": _WRITE.excluded.last_at},
    )
)
_CONCERNED = parse_all([f'labels."{STATUS_LABEL}"'])
_COUNT = (MaskPath("labels", COUNT_LABEL),)


def concerned(connection: Connection) -> list[tuple[Namespace, Container]]:
    """The containers of all namespaces that are to be kept running, or stopped."""
    return [
        (Namespace(name), container)
        for name, _ in namespaces.all_labels(connection)
        for container in containers.find(connection, Namespace(name), _CONCERNED)
    ]


def known(connection: Connection, namespace: Namespace) -> list[tuple[Container, Attempts]]:
    """Those of one namespace, by id, each with what is remembered of it."""
    found = sorted(containers.find(connection, namespace, _CONCERNED), key=lambda one: one.id)
    return [(container, attempts(connection, namespace, container.id)) for container in found]


def attempts(connection: Connection, namespace: Namespace, id_: str) -> Attempts:
    """What is remembered of a container."""
    row = _GET.one(connection, {"in_namespace": namespace, "of_id": id_})
    return Attempts(row["count"], row["last_at"]) if row else Attempts()


def attempted(tx: Transaction, namespace: Namespace, id_: str, made: Attempts) -> None:
    """Remember an attempt, and count it in the container's label; raises NotFound without the container.

    Written before the attempt is made: one that kills the daemon must not be made for ever.
    """
    container = containers.get(tx.connection, namespace, id_)
    labels = {**container.labels, COUNT_LABEL: str(restarts(container.labels) + 1)}
    containers.change(tx, namespace, replace(container, labels=labels), _COUNT)
    _PUT.run(
        tx.connection,
        {"namespace": namespace, "container_id": id_, "count": made.count, "last_at": tx.now},
    )
