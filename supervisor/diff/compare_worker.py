"""The process that compares two trees: confined first, since strangers' files are all it reads.

(containerd does this in its own process.) Started by `comparing`; the layer goes to stdout, and to
stderr one line of JSON: `{"ok": true}` or `{"error": TEXT}`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from supervisor.diff.changes import changes
from supervisor.diff.layer_writer import LayerWriter
from supervisor.errors import SupervisorError
from supervisor.kernel import confine, mounts
from supervisor.model.mount import Mount

MAX_MEMORY = 2 << 30
MAX_OPEN_FILES = 64
# Deeper than any path can be: one level takes two bytes of the 4096 that a path may have.
MAX_DEPTH = 5000

_LEFT, _RIGHT = "left", "right"


def main(request: str) -> None:
    """Do what the JSON `request` of `comparing` asks for, and tell how it went."""
    try:
        _work(json.loads(request))
        answer: dict[str, Any] = {"ok": True}
    except (SupervisorError, OSError) as error:
        answer = {"error": str(error)}
    except Exception as error:  # the line must come, whatever the trees made go wrong here
        answer = {"error": f"compare worker: {type(error).__name__}: {error}"}
    _write_all(2, json.dumps(answer).encode("ascii") + b"\n")


def _work(request: dict[str, Any]) -> None:
    confine.die_with_parent()
    _enter(request)
    sys.setrecursionlimit(MAX_DEPTH)
    right = f"/{_RIGHT}".encode()
    writer = LayerWriter(right, lambda data: _write_all(1, data), request["latest"])
    for change in changes(f"/{_LEFT}".encode() if request[_LEFT] else None, right):
        writer.take(change)
    writer.finish()


def _enter(request: dict[str, Any]) -> None:
    """Mount both trees below one folder in a mount namespace of one's own, and make it the root."""
    confine.leave_network_and_mounts()
    point = Path(request["point"])
    mounts.mount_all([Mount("tmpfs", "tmpfs", ("nodev", "nosuid", "noexec", "size=64k", "mode=700"))], point)
    for side in (_LEFT, _RIGHT):
        (point / side).mkdir()
        asked = [Mount(m["type"], m["source"], tuple(m["options"]), m["target"]) for m in request[side]]
        mounts.mount_all(asked, point / side)
    confine.change_root(str(point))
    confine.import_nothing_more()
    confine.limit(open_files=MAX_OPEN_FILES, memory=MAX_MEMORY)
    confine.keep_capabilities((confine.CAP_DAC_READ_SEARCH,))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
