"""The parent's side of the unpacking worker: started, fed, listened to, and always reaped."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import supervisor
from supervisor.diff.target import Target
from supervisor.errors import SupervisorError

PIPE_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 10

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from supervisor.diff.worker import main; main(sys.argv[2])"
)


@dataclass(slots=True)
class Report:
    """What a worker left for its parent to do: paths below the tree's root, parents first."""

    implied: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)


def unpack(archive: Iterable[bytes], target: Target, point: str, *, sync: bool) -> Report:
    """Have a worker unpack the tar in `archive` into `target`, mounted at `point` if it has to be.

    Raises SupervisorError with the worker's text; errors of `archive` itself pass through.
    """
    with _worker(_request(target, point, sync=sync)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # A worker that has given up closes the pipe; why it did stands in its last line.
        with contextlib.suppress(BrokenPipeError):
            _feed(archive, process.stdin)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        return _listen(process.stdout)


def _request(target: Target, point: str, *, sync: bool) -> str:
    return json.dumps(
        {
            "root": target.root or point,
            "mounts": [asdict(mount) for mount in target.mounts],
            "marks": target.marks,
            "user_xattrs": target.user_xattrs,
            "sync": sync,
        }
    )


@contextlib.contextmanager
def _worker(request: str) -> Iterator[subprocess.Popen[bytes]]:
    package_root = str(Path(supervisor.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT, package_root, request],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        bufsize=0,
    )
    try:
        yield process
    except BaseException:
        process.kill()
        raise
    finally:
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        process.wait()


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
                case {"error": str(text)}:
                    raise SupervisorError(text)
    raise SupervisorError("the unpack worker died without a word; was it killed, or is memory short?")
