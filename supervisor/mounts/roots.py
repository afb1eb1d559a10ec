"""Where transforms may make folders and images: below held folders, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from supervisor.errors import InvalidArgument
from supervisor.kernel import paths


@contextmanager
def parent_of(path: str, roots: Sequence[Path]) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder that `path` is to lie in, reached beneath one of `roots`, and its name.

    Raises InvalidArgument for a path outside of the roots, OSError where a link or `..` leads out.
    """
    wanted = PurePosixPath(path)
    root = max((root for root in roots if wanted.is_relative_to(root)), key=_depth, default=None)
    if root is None or wanted == PurePosixPath(root) or wanted.name == "..":
        places = ", ".join(map(str, roots))
        raise InvalidArgument(f"path {path!r} of a mount must lie below one of {places}")
    held = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inside = str(wanted.relative_to(root).parent)
        folder = paths.open_beneath(held, inside, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(held)
    try:
        yield folder, wanted.name
    finally:
        os.close(folder)


def _depth(root: Path) -> int:
    return len(root.parts)
