"""Starting child programs without fork in Python (posix_spawn), with a stated list of descriptors.

Whatever is not named stays closed: every descriptor of this process is close-on-exec. The shim
ignores SIGPIPE and handles others; a child begins with the defaults, in a process group of its own,
so that it can be killed together with what it has started.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

_RESET = (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1)


def spawn(argv: Sequence[str], *, env: Mapping[str, str], descriptors: Mapping[int, int]) -> int:
    """Start `argv` (looked up on PATH) and answer its pid; raises OSError.

    `descriptors` maps each number in the child to the one here; of 0, 1 and 2 those not named are /dev/null.
    """
    with ExitStack() as stack:
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
        # Above every target first, so that no source is overwritten before its turn.
        floor = max((2, *descriptors)) + 1
        for target, source in descriptors.items():
            copy = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, floor)
            stack.callback(os.close, copy)
            actions.append((os.POSIX_SPAWN_DUP2, copy, target))
        for target in {0, 1, 2} - descriptors.keys():
            actions.append((os.POSIX_SPAWN_OPEN, target, os.devnull, os.O_RDWR, 0))
        return os.posix_spawnp(
            argv[0], list(argv), env, file_actions=actions, setpgroup=0, setsigdef=_RESET, setsigmask=()
        )
