"""A daemon with the content service alone, for tests that kill it: ROOT SOCKET."""

import asyncio
import sys
from pathlib import Path

import grpc.aio

from supervisor.api.services.content.v1 import content_pb2_grpc as rpc
from supervisor.content.local import LocalStore
from supervisor.metadata.content_reconcile import reconcile
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.database import Database
from supervisor.services.content import Content
from supervisor.services.interceptors import Errors


async def serve(root: Path, socket: str) -> None:
    with Database(root / "metadata.db") as database:
        store = ContentStore(database, LocalStore(root / "content"))
        reconcile(store)
        server = grpc.aio.server(interceptors=[Errors()])
        rpc.add_ContentServicer_to_server(Content(store), server)
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        print("serving", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
