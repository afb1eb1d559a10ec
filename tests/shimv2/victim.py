"""A daemon's task side that makes and deletes one task after the other until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.shimv2.conftest import RUNTIMES, Daemon


async def main(top: Path, kind: str) -> None:
    daemon = Daemon(top, RUNTIMES[kind])
    await daemon.start()
    print("ready", flush=True)
    for number in range(1000):
        task = await daemon.run(f"c{number}", "true")
        await task.wait("")
        await daemon.manager.delete(task)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
