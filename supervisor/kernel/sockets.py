"""Unix sockets below folders of any depth: the kernel takes only 107 bytes of a path (man 7 unix)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

MAX_PATH = 107


@contextmanager
def within_limit(path: str | os.PathLike[str]) -> Iterator[str]:
    """A path for the socket at `path` that bind and connect take, valid inside the context.

    Too long a one is named through a descriptor of its folder. Raises OSError when that is missing.
    """
    if len(os.fsencode(path)) <= MAX_PATH:
        yield os.fspath(path)
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
