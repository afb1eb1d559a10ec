"""Calls that change what the kernel keeps per thread, made in a thread that ends with them.

A thread can leave the working directory or the mount namespace that it shares with the others; what it
has for its own goes when it ends, and nothing has to be put back.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.kernel import libc

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000


def apart(flags: int, action: Callable[[], None]) -> None:
    """Run `action` in a thread that shares nothing of `flags` with the others; what it raises comes out."""
    # Few mounts need it, and a process that has loaded it pays for that at each fork.
    import threading

    failures: list[BaseException] = []

    def run() -> None:
        try:
            libc.unshare(flags)
            action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="apart")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
