"""Prepared statements say and return the same as SQLAlchemy's own execution of them."""

from __future__ import annotations

import pytest
from sqlalchemy import bindparam, delete, exists, insert, select, update

from supervisor.metadata.database import Database, Transaction
from supervisor.metadata.schema import ContainerRow, IngestRow
from supervisor.metadata.statements import Prepared
from supervisor.model.any import Any

ROW = {
    "namespace": "blue",
    "id": "c",
    "image": "i",
    "runtime_name": "r",
    "runtime_options": Any("t", b"\0\xff"),
    "spec": None,
    "snapshotter": "",
    "snapshot_key": "",
    "sandbox": "",
    "labels": {"ü": "1", "a": '"'},
    "extensions": {"x": Any("u", b"")},
    "created_at": 2**62,
    "updated_at": -1,
}
THIS = select(*ContainerRow.__table__.columns).where(ContainerRow.id == bindparam("of"))


def test_what_goes_in_by_one_way_comes_out_by_the_other(database: Database) -> None:
    database.write(lambda tx: Prepared(insert(ContainerRow)).run(tx.connection, ROW))
    plain = database.read(lambda c: c.execute(THIS, {"of": "c"}).mappings().one())
    assert dict(plain) == ROW
    database.write(lambda tx: tx.execute(insert(ContainerRow), ROW | {"id": "d"}))
    assert database.read(lambda c: Prepared(THIS).one(c, {"of": "d"})) == ROW | {"id": "d"}
    assert database.read(lambda c: Prepared(THIS).one(c, {"of": "e"})) is None


def test_constants_counts_and_returned_rows(database: Database) -> None:
    one = {"namespace": "blue", "expected": "", "total": 1, "started_at": 0, "updated_at": 0, "expires_at": 0}
    rows = [one | {"ref": ref, "shared": ref == "b"} for ref in "abc"]
    shared = select(IngestRow.ref).where(IngestRow.shared.is_(True), IngestRow.total == 1)
    change = update(IngestRow).where(IngestRow.ref > bindparam("above")).values(total=7)
    gone = delete(IngestRow).where(IngestRow.total == 7).returning(IngestRow.ref, IngestRow.shared)

    def work(tx: Transaction) -> None:
        Prepared(insert(IngestRow)).run_many(tx.connection, rows)
        assert Prepared(shared).rows(tx.connection, {}) == [{"ref": "b"}]
        assert Prepared(select(exists().where(IngestRow.ref == "a"))).run(tx.connection, {}).fetchone() == (
            1,
        )
        assert Prepared(change).run(tx.connection, {"above": "a"}).rowcount == 2
        returned = Prepared(gone).rows(tx.connection, {})
        assert sorted(returned, key=str) == [{"ref": "b", "shared": True}, {"ref": "c", "shared": False}]

    database.write(work)


def test_a_missing_parameter_is_a_mistake_of_ours(database: Database) -> None:
    with pytest.raises(KeyError):
        database.read(lambda c: Prepared(THIS).rows(c, {}))
