"""What an operating system's refusal means to whoever reads or writes content."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from supervisor.errors import DataLoss, ResourceExhausted, SupervisorError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn an OSError inside the `with` into an error that says what was attempted and what to do."""
    try:
        yield
    except OSError as error:
        raise _translate(doing, error) from error


def _translate(doing: str, error: OSError) -> SupervisorError:
    if error.errno in _NO_SPACE:
        return ResourceExhausted(f"{doing}: {error}; what was stored is kept, free some space and resume")
    if error.errno in _NO_DESCRIPTOR:
        return ResourceExhausted(f"{doing}: {error}; try again when less is going on")
    if error.errno == errno.EIO:
        return DataLoss(f"{doing}: {error}; the disk or file system fails, look at the kernel's log")
    return SupervisorError(f"{doing}: {error}")
