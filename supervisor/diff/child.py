"""Confined children that work on layers: started with a request, and always reaped.

(containerd does this work in its own process.) A child is a module with a function `main(request)`;
it is exec'd, never forked from the daemon's threads, and inherits its three standard streams only.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import supervisor

# Neither the environment nor the working directory, nor site-packages, has a say in what is imported.
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from supervisor.diff.{} import main; main(sys.argv[2])"


@contextlib.contextmanager
def running(
    module: str,
    request: Mapping[str, object],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that runs `supervisor.diff.<module>`; killed when the block ends with an error."""
    package_root = str(Path(supervisor.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT.format(module), package_root, json.dumps(request)],
        cwd="/",
        env={},
        bufsize=0,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )
    try:
        yield process
    except BaseException:
        process.kill()
        raise
    finally:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()


def of(pipe: IO[bytes] | None) -> IO[bytes]:
    """A stream that was asked for as a pipe."""
    assert pipe is not None
    return pipe
