"""Who has a folder alone: the daemon while it serves, or a command that works on what no daemon serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supervisor.errors import FailedPrecondition, PermissionDenied
from supervisor.kernel.files import locked


@contextmanager
def owned_folder(folder: Path, mode: int) -> Iterator[None]:
    """Make the folder and hold it alone: two daemons on one root would destroy each other's work."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        lock = locked(folder / "lock")
        lock.__enter__()
    except BlockingIOError as error:
        raise FailedPrecondition(
            f"another daemon uses {folder} ({error.strerror}); stop it, or give this one other folders"
        ) from error
    except PermissionError as error:
        raise PermissionDenied(
            f"use the folder {folder}: {error.strerror}; the daemon runs as root"
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
