"""The process that unpacks one layer: confined first, then fed with a stranger's tar on stdin.

(containerd does this in its own process.) Started as `python -I -S -c BOOT`, see `unpacking`; it
imports only the standard library and what unpacking needs. What it has to say goes to stdout, as
lines of JSON: directories for the parent to finish, and last `{"ok": true}`, `{"exceeded": TEXT}`
if a limit was met, or `{"error": TEXT}`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from supervisor.diff.hiding import Deletion, Hiding, OverlayMarks
from supervisor.diff.limits import Limits
from supervisor.diff.tar_reader import TarReader
from supervisor.diff.unpack import Unpacker
from supervisor.diff.whiteout import USER_OVERLAY_PREFIX
from supervisor.errors import ResourceExhausted, SupervisorError
from supervisor.kernel import confine, libc, mounts
from supervisor.model.mount import Mount

BUFFER_BYTES = 1 << 20
# Of a layer of a few million files, the names alone take several hundred MiB when they must be remembered.
MAX_MEMORY = 2 << 30
MAX_OPEN_FILES = 64

_KEPT = (
    confine.CAP_CHOWN,
    confine.CAP_DAC_OVERRIDE,
    confine.CAP_FOWNER,
    confine.CAP_FSETID,
    confine.CAP_MKNOD,
    confine.CAP_SETFCAP,
)


def main(request: str) -> None:
    """Do what the JSON `request` of `unpacking` asks for, and tell how it went."""
    try:
        for line in _work(json.loads(request)):
            _say(line)
        _say({"ok": True})
    except ResourceExhausted as error:
        _say({"exceeded": str(error)})
    except MemoryError:
        _say(
            {"error": f"unpack worker: what it must remember of the layer takes more than {MAX_MEMORY} bytes"}
        )
    except (SupervisorError, OSError) as error:
        _say({"error": str(error)})
    except Exception as error:  # the last line must come, whatever a layer made go wrong here
        _say({"error": f"unpack worker: {type(error).__name__}: {error}"})


def _work(request: dict[str, Any]) -> list[dict[str, str]]:
    os.umask(0)
    confine.die_with_parent()
    _enter(request)
    hiding: Hiding = OverlayMarks() if request["marks"] else Deletion()
    dropped = (USER_OVERLAY_PREFIX,) if request["user_xattrs"] else ()
    unpacker = Unpacker(hiding, Limits(**request["limits"]), drop_xattrs=dropped)
    with open(0, "rb", buffering=BUFFER_BYTES) as stream:
        unpacker.unpack(TarReader(stream))
        while stream.read(BUFFER_BYTES):
            pass  # what follows the archive counts for its digest, which the parent takes
    if request["sync"]:
        _sync()
    if not request["marks"]:
        return []
    implied = [{"implied": os.fsdecode(path)} for path in unpacker.implied]
    return implied + [{"opaque": os.fsdecode(path)} for path in hiding.opaque]


def _enter(request: dict[str, Any]) -> None:
    """Confine this process to the layer's tree, in the order in which each step is still possible."""
    confine.leave_network_and_mounts()
    root = request["root"]
    if request["mounts"]:
        asked = [Mount(m["type"], m["source"], tuple(m["options"]), m["target"]) for m in request["mounts"]]
        mounts.mount_all(asked, Path(root))
    confine.change_root(root)
    confine.import_nothing_more()
    confine.limit(open_files=MAX_OPEN_FILES, memory=MAX_MEMORY)
    confine.keep_capabilities(_KEPT)


def _sync() -> None:
    descriptor = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    libc.syncfs(descriptor, "/")
    os.close(descriptor)


def _say(line: dict[str, Any]) -> None:
    """One line of pure ASCII, so that names that are no UTF-8 pass unharmed."""
    data = json.dumps(line).encode("ascii") + b"\n"
    while data:
        data = data[os.write(1, data) :]
