"""The store as asynchronous callers use it: functions of `supervisor.metadata` awaited.

Functions there are synchronous and take a transaction (writes) or a connection (reads) first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from supervisor.blocking import Arrivals, in_thread
from supervisor.metadata.database import Database, Transaction

P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """An awaitable front of a Database; one write is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._arrivals = Arrivals()
        database.settled(self._arrivals.flush)

    def look_up(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `query(connection, ...)` of a few rows here and now, on the event loop's thread.

        Readers never wait for the writer, and such a query takes a tenth of what handing it to another
        thread does. Whatever reads without a bound is for `read`.
        """
        return self.database.read(lambda connection: query(connection, *args, **kwargs))

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `query(connection, ...)` on one consistent view."""
        return await in_thread(self.database.read, lambda connection: query(connection, *args, **kwargs))

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(transaction, ...)`; returns when its commit is on disk."""
        return await self._arrivals.wait(
            self.database.submit(lambda transaction: work(transaction, *args, **kwargs))
        )

    async def note(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `write`, for what is of no use after a reboot: it outlives the daemon, but not the power."""
        return await self._arrivals.wait(
            self.database.submit(lambda transaction: work(transaction, *args, **kwargs), durable=False)
        )
