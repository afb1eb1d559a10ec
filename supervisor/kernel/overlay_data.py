"""Overlay mounts of many layers: mount(2) takes one page of data.

(containerd: core/mount, mount_linux.go, compactLowerdirOption.)

Long layer lists are named relative to their common folder. The mount is made from there, apart from
the rest of the process, which keeps its working directory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence

from supervisor.kernel import libc
from supervisor.kernel.apart import CLONE_FS, apart
from supervisor.kernel.filesystem_context import mount_with

_LONGEST_DATA = 4096 - 512  # a page, less what security modules and the kernel may add
_LOWERDIR = "lowerdir="


def mount_overlay(source: str, target: str, flags: int, options: Sequence[str]) -> None:
    """Mount an overlay on `target`, shortening its list of lower layers when that would not fit."""
    data = ",".join(options)
    if len(os.fsencode(data)) <= _LONGEST_DATA:
        libc.mount(source, target, "overlay", flags, data)
        return
    folder, shortened = shorten(options)
    absolute = os.path.abspath(target)
    in_folder(folder, lambda: _mount_here(source, absolute, flags, shortened))


def _mount_here(source: str, target: str, flags: int, options: Sequence[str]) -> None:
    data = ",".join(options)
    if len(os.fsencode(data)) <= _LONGEST_DATA:
        libc.mount(source, target, "overlay", flags, data)
        return
    try:
        mount_with("overlay", target, flags, [("source", source), *_parameters(options)])
    except OSError as error:
        text = f"{error.strerror} ({len(data)} bytes of options are more than a page; that needs Linux 6.7)"
        raise OSError(error.errno, text, target) from error


def _parameters(options: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Options one by one; all paths relative, because a value may have 255 bytes only."""
    for word in options:
        key, equals, value = word.partition("=")
        if word.startswith(_LOWERDIR):
            yield from (("lowerdir+", layer) for layer in value.split(":"))
        elif key in ("upperdir", "workdir"):
            yield key, os.path.relpath(value)
        else:
            yield key, value if equals else None


def shorten(options: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that all lower layers lie in, and the options with the layers relative to it."""
    lower = next((word for word in options if word.startswith(_LOWERDIR)), _LOWERDIR)
    layers = lower.removeprefix(_LOWERDIR).split(":")
    if not all(map(os.path.isabs, layers)):
        raise OSError(errno.EINVAL, "mount overlay: each layer of lowerdir= must be an absolute path", lower)
    folder = os.path.dirname(os.path.commonpath(layers)) if len(layers) == 1 else os.path.commonpath(layers)
    relative = _LOWERDIR + ":".join(os.path.relpath(layer, folder) for layer in layers)
    return folder, [relative if word == lower else word for word in options]


def in_folder(folder: str, action: Callable[[], None]) -> None:
    """Run `action` with `folder` as the working directory of it alone."""

    def run() -> None:
        os.chdir(folder)
        action()

    apart(CLONE_FS, run)
