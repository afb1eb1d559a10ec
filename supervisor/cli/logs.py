"""Where the output of detached containers is kept, and reading it (`run -d`, `logs`, `rm`).

The shim appends to a file; the container's label names it, so that every client finds it. The daemon
has no part in it, and so the log is complete whatever happens to the daemon.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from supervisor.client.client import Client
from supervisor.client.containers import Container
from supervisor.errors import NotFound

LABEL = "container-supervisor/log"
FALLBACK_ROOT = "/var/lib/container-supervisor"
PIECE_BYTES = 64 << 10


async def place(client: Client, container_id: str, directory: str | None) -> Path:
    """The log of a new container: below `directory`, by default below the daemon's root."""
    root = Path(directory) if directory else Path(await client.introspection.root() or FALLBACK_ROOT) / "logs"
    return root.absolute() / client.namespace / f"{container_id}.log"


def prepare(path: Path) -> str:
    """Make the empty log, readable by its owner only, and return the URI that a task writes to."""
    path.parent.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)
    return f"file://{quote(str(path))}"


def of(container: Container) -> Path:
    """The log of a container; raises NotFound when it keeps none."""
    path = container.labels.get(LABEL)
    if not path:
        raise NotFound(
            f"log of container {container.id}: it keeps none, since it was not started with `run -d`"
        )
    return Path(path)


def remove(namespace: str, container_id: str, path: Path) -> None:
    """Remove a log and the folders that it leaves empty.

    The label is a wish of whoever made the container: only what looks like its own log is touched.
    """
    if path.name != f"{container_id}.log" or path.parent.name != namespace:
        return
    path.unlink(missing_ok=True)
    with suppress(OSError):  # other logs are in there
        path.parent.rmdir()
        path.parent.parent.rmdir()


def read_from(path: Path, offset: int) -> bytes:
    """The next piece of a log."""
    try:
        with path.open("rb") as log:
            log.seek(offset)
            return log.read(PIECE_BYTES)
    except FileNotFoundError:
        raise NotFound(f"log {path}: somebody removed it") from None
