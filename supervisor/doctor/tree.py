"""Folders looked into without passing over what may not be seen: that would be taken for not being there."""

from __future__ import annotations

import os
from pathlib import Path


def status(path: Path) -> os.stat_result | None:
    """The status of what is at `path`, None when nothing is; raises PermissionError."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def children(folder: Path) -> list[Path]:
    """What is in a folder, nothing when there is none; raises PermissionError."""
    try:
        return sorted(folder / name for name in os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def grandchildren(folder: Path) -> list[Path]:
    """What is in the folders of a folder; hidden names are kept apart by who asks."""
    return [path for child in children(folder) for path in children(child)]


def nearest(path: Path) -> Path:
    """The path, or the folder above it that is there."""
    while status(path) is None:
        path = path.parent
    return path
