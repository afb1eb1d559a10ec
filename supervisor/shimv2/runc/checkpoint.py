"""Checkpoints, made and restored by the runtime with criu (containerd: process/init.go, `checkpoint`).

Rare, and imported when it is asked for. The dump's log is worth more than the runtime's one line, so it
is kept in the bundle when a dump fails.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress

from google.protobuf.message import DecodeError

from supervisor.api.types.runc.options import oci_pb2
from supervisor.errors import FailedPrecondition, InvalidArgument, SupervisorError
from supervisor.shimv2.runc.runtime import CommandFailed, Runtime

DUMP_LOG = "criu-dump.log"
_FLAGS = (
    ("open_tcp", "--tcp-established"),
    ("external_unix_sockets", "--ext-unix-sk"),
    ("terminal", "--shell-job"),
    ("file_locks", "--file-locks"),
)


def flags_of(type_url: str, value: bytes) -> list[str]:
    """The runtime's flags for a request's options; raises SupervisorError for those of another type."""
    if type_url and type_url.rpartition("/")[2] != oci_pb2.CheckpointOptions.DESCRIPTOR.full_name:
        raise SupervisorError(
            f"invalid task checkpoint option {type_url}: runc's CheckpointOptions are wanted"
        )
    try:
        options = oci_pb2.CheckpointOptions.FromString(value)
    except DecodeError as error:
        raise InvalidArgument(f"the checkpoint options cannot be read: {error}") from error
    flags = ["--work-path", options.work_path] if options.work_path else []
    flags += ["--parent-path", options.parent_path] if options.parent_path else []
    flags += [flag for field, flag in _FLAGS if getattr(options, field)]
    for namespace in options.empty_namespaces:
        flags += ["--empty-ns", namespace]
    return flags if options.exit else [*flags, "--leave-running"]


def checkpoint(runtime: Runtime, container: str, bundle: str, path: str, flags: Sequence[str]) -> None:
    """Dump a container into the folder `path`; raises FailedPrecondition where the machine cannot do it."""
    check_criu("checkpoint", container)
    work = _value(flags, "--work-path") or f"{bundle}/work/criu"
    os.makedirs(work, mode=0o700, exist_ok=True)
    if "--work-path" not in flags:
        flags = ["--work-path", work, *flags]
    try:
        runtime.checkpoint(container, path, flags)
    except CommandFailed as error:
        with suppress(OSError):
            shutil.copyfile(f"{work}/dump.log", f"{bundle}/{DUMP_LOG}")
        line = str(error).partition("\n")[0]
        raise _failure(container, f"{line} path= {bundle}/{DUMP_LOG}") from error


def check_criu(what: str, container: str) -> None:
    """Raise FailedPrecondition on a machine without criu."""
    if shutil.which("criu") is None:
        raise FailedPrecondition(f"{what} of {container}: this machine has no criu on its PATH; install criu")


def _failure(container: str, text: str) -> SupervisorError:
    """A failure is the container's if criu says that it works here, the machine's otherwise."""
    import subprocess

    checked = subprocess.run(["criu", "check"], capture_output=True, check=False, timeout=30)
    if checked.returncode == 0:
        return SupervisorError(text)
    words = (checked.stderr or checked.stdout).decode(errors="replace").strip().splitlines()
    reason = words[-1] if words else f"exit status {checked.returncode}"
    return FailedPrecondition(
        f"checkpoint of {container}: criu does not work on this kernel ({reason}): {text}"
    )


def _value(flags: Sequence[str], name: str) -> str:
    return flags[flags.index(name) + 1] if name in flags else ""
