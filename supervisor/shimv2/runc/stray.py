"""What a shim that was killed has left running, and a runtime that hangs while it is cleaned up.

(Containerd has the kernel kill a shim's commands with it, by PDEATHSIG; posix_spawn cannot ask for that.)
Imported where there is something to do.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress

from supervisor.errors import DeadlineExceeded, SupervisorError
from supervisor.shimv2.runc.bundle import INIT_PID_FILE, read_pid
from supervisor.shimv2.runc.spawn import spawn

# Less than what the daemon gives the whole clean-up (containerd: io.containerd.timeout.shim.cleanup).
RUNTIME_SECONDS = 3.5


def end_commands(bundle: str) -> None:
    """Kill the runtime's commands that still work on a bundle: they would make what nobody knows."""
    for pid in _commands(f"{bundle}/log.json".encode()):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def force_delete(argv: Sequence[str], bundle: str) -> None:
    """Run a runtime's `delete --force`. One that hangs is killed, and then init is, without it."""
    errors = os.memfd_create("stderr")
    command = spawn(argv, env=os.environ, descriptors={2: errors})
    code = command.wait(RUNTIME_SECONDS)
    if code is None:
        command.kill_group()
        _kill_init(bundle)
        raise DeadlineExceeded(f"{argv[0]} delete --force did not end in the time given, and was killed")
    told = os.pread(errors, 1 << 16, 0)
    if code and b"does not exist" not in told:
        raise SupervisorError(f"{argv[0]} delete --force: {told.decode(errors='replace').strip()}")


def _commands(log: bytes) -> Iterator[int]:
    """Leaders of process groups whose command line names the log; each command leads its own."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
            if log in file.read().split(b"\0") and os.getpgid(int(name)) == int(name):
                yield int(name)


def _kill_init(bundle: str) -> None:
    """Kill the process that the pid file names, if it is in the container's cgroup: pids are used again."""
    with suppress(OSError, ValueError, SupervisorError):
        with open(f"{bundle}/config.json", "rb") as file:
            path = str(json.load(file)["linux"]["cgroupsPath"])
        pid = read_pid(f"{bundle}/{INIT_PID_FILE}")
        name = path.replace(":", "/").rpartition("/")[2]
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as cgroups:
            if name and name in cgroups.read():
                os.kill(pid, signal.SIGKILL)
