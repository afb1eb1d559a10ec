"""The C library and raw system calls, with errors as OSError (what Go's x/sys/unix is to containerd).

Imported by the shim, so it imports next to nothing. Every wrapper of this package ends in `checked`,
which names the call and the path it was made on. ctypes releases the interpreter's lock meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import os

# The numbers from 424 on are the same on every architecture that this runs on.
SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
SYS_FSOPEN = 430
SYS_FSCONFIG = 431
SYS_FSMOUNT = 432
SYS_OPENAT2 = 437
SYS_MOUNT_SETATTR = 442

PAGE = 4096
"""The most that mount(2) takes of data, whatever the machine's pages are."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.syncfs.argtypes = (ctypes.c_int,)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.inotify_init1.argtypes = (ctypes.c_int,)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_libc.syscall.restype = ctypes.c_long
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.sbrk.argtypes = (ctypes.c_ssize_t,)
_libc.sbrk.restype = ctypes.c_void_p


def checked(result: int, call: str, path: str | os.PathLike[str] | None = None) -> int:
    """Return `result`, or raise the OSError that a negative one stands for; `path` becomes its filename."""
    if result >= 0:
        return result
    number = ctypes.get_errno()
    text = f"{call}: {os.strerror(number)}"
    if number == errno.ENOSYS:
        text += " (the kernel is too old for this call, or a seccomp filter around this process hides it)"
    if path is None:
        raise OSError(number, text)
    raise OSError(number, text, os.fspath(path))


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """mount(2)."""
    if len(os.fsencode(data)) >= PAGE:
        # The kernel takes one page and drops the rest without a word.
        raise OSError(errno.E2BIG, f"mount {fstype} from {source!r}: more than a page of options", target)
    arguments = (os.fsencode(source), os.fsencode(target), fstype.encode(), flags, os.fsencode(data) or None)
    checked(_libc.mount(*arguments), f"mount {fstype or 'flags'} from {source!r}", target)


def umount2(target: str, flags: int) -> None:
    """umount2(2)."""
    checked(_libc.umount2(os.fsencode(target), flags), "umount", target)


def madvise(start: int, length: int, advice: int) -> None:
    """madvise(2)."""
    checked(_libc.madvise(start, length, advice), "madvise")


def prctl(option: int, argument: int, call: str) -> int:
    """prctl(2) of one argument; `call` names it in an error."""
    return checked(_libc.prctl(option, argument, 0, 0, 0), call)


def syncfs(descriptor: int, path: str) -> None:
    """syncfs(2): write out the whole filesystem that `descriptor` lies in."""
    checked(_libc.syncfs(descriptor), "syncfs", path)


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    checked(_libc.unshare(flags), f"unshare {flags:#x}")


def inotify(path: str, mask: int) -> int:
    """inotify_init1(2) with one watch on `path`: a descriptor that does not block."""
    descriptor = checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
    try:
        checked(_libc.inotify_add_watch(descriptor, os.fsencode(path), mask), "inotify_add_watch", path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def syscall(number: int, *arguments: object, call: str, path: str | os.PathLike[str] | None = None) -> int:
    """A system call that the C library has no function for; arguments are ctypes values, bytes or None."""
    return checked(_libc.syscall(ctypes.c_long(number), *arguments), call, path)


def heap_top() -> int:
    """sbrk(0): the address where the heap ends."""
    return int(_libc.sbrk(0) or 0)
