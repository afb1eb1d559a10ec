"""A daemon with the content service alone, for tests that kill it: ROOT SOCKET."""

import asyncio
import sys
from pathlib import Path

from supervisor.content.local import LocalStore
from supervisor.http2.server import Server
from supervisor.metadata.content_reconcile import reconcile
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.database import Database
from supervisor.services.content import Content


async def serve(root: Path, socket: str) -> None:
    with Database(root / "metadata.db") as database:
        store = ContentStore(database, LocalStore(root / "content"))
        reconcile(store)
        async with Server() as server:
            server.add(Content(store))
            await server.listen(Path(socket))
            print("serving", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
