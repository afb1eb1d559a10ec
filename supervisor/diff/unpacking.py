"""The parent's side of the unpacking worker: started, fed, listened to, and always reaped."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import IO

from supervisor.diff import child
from supervisor.diff.limits import DEFAULT_LIMITS, Limits
from supervisor.diff.target import Target
from supervisor.errors import ResourceExhausted, SupervisorError

PIPE_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 10


@dataclass(slots=True)
class Report:
    """What a worker left for its parent to do: paths below the tree's root, parents first."""

    implied: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)


def unpack(
    archive: Iterable[bytes], target: Target, point: str, *, sync: bool, limits: Limits = DEFAULT_LIMITS
) -> Report:
    """Have a worker unpack the tar in `archive` into `target`, mounted at `point` if it has to be.

    Raises ResourceExhausted or SupervisorError with the worker's text; errors of `archive` itself pass
    through.
    """
    request = _request(target, point, sync=sync, limits=limits)
    with child.running("worker", request, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        # A worker that has given up closes the pipe; why it did stands in its last line.
        with contextlib.suppress(BrokenPipeError):
            _feed(archive, child.of(process.stdin))
        with contextlib.suppress(BrokenPipeError):
            child.of(process.stdin).close()
        return _listen(child.of(process.stdout))


def _request(target: Target, point: str, *, sync: bool, limits: Limits) -> dict[str, object]:
    return {
        "root": target.root or point,
        "mounts": [asdict(mount) for mount in target.mounts],
        "marks": target.marks,
        "user_xattrs": target.user_xattrs,
        "sync": sync,
        "limits": asdict(limits),
    }


def _feed(archive: Iterable[bytes], pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)  # a larger pipe is only faster
    for piece in archive:
        view = memoryview(piece)
        while view:
            view = view[pipe.write(view) :]


def _listen(pipe: IO[bytes]) -> Report:
    report = Report()
    with open(pipe.fileno(), "rb", closefd=False) as lines:
        while line := lines.readline(MAX_LINE_BYTES):
            match json.loads(line):
                case {"ok": True}:
                    return report
                case {"implied": str(path)}:
                    report.implied.append(path)
                case {"opaque": str(path)}:
                    report.opaque.append(path)
                case {"exceeded": str(text)}:
                    raise ResourceExhausted(text)
                case {"error": str(text)}:
                    raise SupervisorError(text)
    raise SupervisorError("the unpack worker died without a word; was it killed, or is memory short?")
