"""Statements that are run for every request: written with SQLAlchemy, run by SQLite's driver itself.

SQLAlchemy checks names and types and renders the text once, when the module is loaded. Its machinery
for each execution costs several times what SQLite needs; a prepared statement does without it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any as Anything

from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import Select
from sqlalchemy.types import TypeEngine

Row = Mapping[str, Anything]
Parameters = Mapping[str, Anything]

_DIALECT = pysqlite.dialect(dbapi=sqlite3)
_Convert = Callable[[Anything], Anything]


class Prepared:
    """One statement; its parameters are named by `bindparam`, or by the columns of an INSERT."""

    def __init__(
        self, statement: Select[*tuple[Anything, ...]] | UpdateBase, columns: Iterable[str] | None = None
    ) -> None:
        """Render it; `columns` are those that an INSERT fills or an UPDATE sets, when not all."""
        keys = None if columns is None else list(columns)
        compiled = statement.compile(dialect=_DIALECT, column_keys=keys)
        binds = compiled.binds
        names = compiled.positiontup or ()
        self.text = str(compiled)
        self._encode = [(name, _encoder(binds[name].type)) for name in names]
        self._constants = {name: binds[name].value for name in names if not binds[name].required}
        self._decode = [(column.key or "", _decoder(column.type)) for column in statement.exported_columns]

    def run(self, connection: Connection, parameters: Parameters) -> sqlite3.Cursor:
        """Execute it; the cursor tells `rowcount` and `lastrowid`."""
        return driver(connection).execute(self.text, self.encoded(parameters))

    def run_many(self, connection: Connection, parameters: Iterable[Parameters]) -> None:
        """Execute it for each set of parameters."""
        driver(connection).executemany(self.text, map(self.encoded, parameters))

    def each(self, connection: Connection, parameters: Parameters) -> Iterator[Row]:
        """Execute it; the rows one by one, as they are found."""
        return map(self._decoded, self.run(connection, parameters))

    def rows(self, connection: Connection, parameters: Parameters) -> list[Row]:
        """Execute it; all rows."""
        return list(self.each(connection, parameters))

    def one(self, connection: Connection, parameters: Parameters) -> Row | None:
        """Execute it; the first row, None when there is none."""
        row = self.run(connection, parameters).fetchone()
        return None if row is None else self._decoded(row)

    def encoded(self, parameters: Parameters) -> list[Anything]:
        """The values of its parameters as they are stored, in the order of its text."""
        if self._constants:
            parameters = self._constants | dict(parameters)
        return [
            parameters[name] if encode is None else encode(parameters[name]) for name, encode in self._encode
        ]

    def _decoded(self, values: Sequence[Anything]) -> Row:
        return {
            key: value if decode is None else decode(value)
            for (key, decode), value in zip(self._decode, values)
        }


def driver(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection below SQLAlchemy's."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _encoder(kind: TypeEngine[Anything]) -> _Convert | None:
    return kind.dialect_impl(_DIALECT).bind_processor(_DIALECT)


def _decoder(kind: TypeEngine[Anything]) -> _Convert | None:
    return kind.dialect_impl(_DIALECT).result_processor(_DIALECT, None)
