"""The border where the kernel's errors become this program's, for snapshot files."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from supervisor.errors import DataLoss, NotFound, ResourceExhausted, SupervisorError, Unavailable

_KINDS: dict[int, tuple[type[SupervisorError], str]] = {
    errno.ENOSPC: (ResourceExhausted, "free space on the filesystem of the daemon's root"),
    errno.EDQUOT: (ResourceExhausted, "the quota of the daemon's root is used up"),
    errno.EROFS: (
        Unavailable,
        "the filesystem of the daemon's root has become read-only; see the kernel's log",
    ),
    errno.EIO: (DataLoss, "the disk under the daemon's root fails; see the kernel's log"),
    errno.ENOENT: (NotFound, "its files are gone; remove the snapshot and make it again"),
    errno.EBUSY: (Unavailable, "unmount what is mounted there and try again"),
}


@contextmanager
def translating(attempt: str) -> Iterator[None]:
    """Raise an OSError as the SupervisorError that it means; `attempt` says what was tried, on what."""
    try:
        yield
    except OSError as error:
        cls, advice = _KINDS.get(error.errno or 0, (SupervisorError, "the error is the kernel's"))
        raise cls(f"{attempt}: {error}: {advice}") from error
