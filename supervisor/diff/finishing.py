"""What the worker cannot do in an overlay's upper directory: look at lower layers, mark directories.

(containerd: pkg/archive, mkparent and OverlayConvertWhiteout.) Paths come from the worker, so they are
resolved below a held descriptor, without following any link.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from supervisor.diff.unpacking import Report
from supervisor.diff.whiteout import OVERLAY_OPAQUE_XATTR, OVERLAY_XATTR_PREFIXES
from supervisor.kernel import paths

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_RESOLVE = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS | paths.RESOLVE_NO_MAGICLINKS


def finish(root: str, lowers: Sequence[str], report: Report) -> None:
    """Give directories that no entry described the metadata of the layers below, and set opaque marks."""
    if not (report.implied or report.opaque):
        return
    with ExitStack() as stack:
        upper = stack.enter_context(_held(root))
        below = [stack.enter_context(_held(lower)) for lower in lowers]
        for path in report.implied:
            _copy_up(upper, below, path.lstrip("/"))
        for path in report.opaque:
            _mark_opaque(upper, path.lstrip("/") or ".")


@contextmanager
def _held(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _directory(root: int, path: str) -> Iterator[int | None]:
    """The directory `path` below `root`; None when a later entry, or another layer, has no such one."""
    try:
        descriptor = paths.openat2(root, path, _FLAGS, 0, _RESOLVE)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy_up(upper: int, below: Sequence[int], path: str) -> None:
    with _directory(upper, path) as made:
        for root in below if made is not None else ():
            with _directory(root, path) as original:
                if original is not None and made is not None:
                    _copy_metadata(original, made)
                    return


def _copy_metadata(original: int, made: int) -> None:
    status = os.fstat(original)
    os.fchown(made, status.st_uid, status.st_gid)
    for key in os.listxattr(original):
        # The marks of one layer mean something else in another.
        if not key.startswith(OVERLAY_XATTR_PREFIXES):
            os.setxattr(made, key, os.getxattr(original, key))
    os.fchmod(made, status.st_mode & 0o7777)
    os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))


def _mark_opaque(upper: int, path: str) -> None:
    with _directory(upper, path) as found:
        if found is not None:
            os.setxattr(found, OVERLAY_OPAQUE_XATTR, b"y")
