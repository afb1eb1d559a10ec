"""What the shim's actions load: each shim has that in memory."""

from __future__ import annotations

import subprocess
import sys


def test_what_the_actions_load() -> None:
    """No asyncio, grpc or SQLAlchemy; and not what makes each fork dearer: threading, protobuf's library."""
    barred = ("asyncio", "grpc", "sqlalchemy", "requests", "zstandard", "subprocess")
    dear = ("threading", "logging", "google.protobuf", "concurrent.futures", "random")
    for module, more in (("delete", ("ctypes",)), ("server", ()), ("start", ()), ("launcher", ())):
        script = (
            f"import sys, supervisor.shimv2.runc.{module} as loaded;"
            " getattr(loaded, 'load', print)(); print(*sys.modules)"
        )
        loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert not set(loaded.stdout.split()) & {*barred, *dear, *more}


def test_nothing_is_left_of_the_rehearsal() -> None:
    """But what it is for: no descriptor, and no signal's handler that a child would not undo."""
    script = (
        "import os\n"
        "from supervisor.shimv2.runc import launcher, rehearsal\n"
        "launcher.load()\n"
        "before = os.listdir('/proc/self/fd')\n"
        "rehearsal.rehearse()\n"
        "assert os.listdir('/proc/self/fd') == before, os.listdir('/proc/self/fd')\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
