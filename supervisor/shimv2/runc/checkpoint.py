"""Checkpoints, made and restored by the runtime with criu (containerd: process/init.go, `checkpoint`).

Rare, and imported when it is asked for. The dump's log is worth more than the runtime's one line, so it
is kept in the bundle when a dump fails.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from supervisor.errors import FailedPrecondition, InvalidArgument, SupervisorError
from supervisor.shimv2.runc.making import Blueprint, Plain
from supervisor.shimv2.runc.runtime import CommandFailed
from supervisor.ttrpc.protobuf import ANY, Layout

OPTIONS = Layout(
    "exit open_tcp external_unix_sockets terminal file_locks empty_namespaces cgroups_mode image_path"
    " work_path parent_path",
    "empty_namespaces cgroups_mode image_path work_path parent_path",
)
OPTIONS_NAME = "containerd.runc.v1.CheckpointOptions"

DUMP_LOG = "criu-dump.log"
_FLAGS = (
    ("open_tcp", "--tcp-established"),
    ("external_unix_sockets", "--ext-unix-sk"),
    ("terminal", "--shell-job"),
    ("file_locks", "--file-locks"),
)


def flags_of(options: bytes) -> list[str]:
    """The runtime's flags for a request's options, an encoded Any; raises SupervisorError for others."""
    try:
        sent = ANY.FromString(options)
        type_url = sent.text("type_url")
        chosen = OPTIONS.FromString(sent.data("value"))
    except ValueError as error:
        raise InvalidArgument(f"the checkpoint options cannot be read: {error}") from error
    if type_url and type_url.rpartition("/")[2] != OPTIONS_NAME:
        raise SupervisorError(
            f"invalid task checkpoint option {type_url}: runc's CheckpointOptions are wanted"
        )
    flags: list[str] = []
    for field, flag in (("work_path", "--work-path"), ("parent_path", "--parent-path")):
        flags += [flag, chosen.text(field)] if chosen.text(field) else []
    flags += [flag for field, flag in _FLAGS if chosen.flag(field)]
    for namespace in chosen.each("empty_namespaces"):
        flags += ["--empty-ns", namespace.decode()]
    return flags if chosen.flag("exit") else [*flags, "--leave-running"]


def checkpoint(plain: Plain, path: str, options: bytes) -> None:
    """Dump a container into the folder `path`; raises FailedPrecondition where the machine cannot do it."""
    wanted = Blueprint(*plain)
    flags, container, bundle = flags_of(options), wanted.id, wanted.bundle
    check_criu("checkpoint", container)
    work = _value(flags, "--work-path") or f"{bundle}/work/criu"
    os.makedirs(work, mode=0o700, exist_ok=True)
    if "--work-path" not in flags:
        flags = ["--work-path", work, *flags]
    try:
        wanted.runtime().checkpoint(container, path, flags)
    except CommandFailed as error:
        with suppress(OSError):
            import shutil

            shutil.copyfile(f"{work}/dump.log", f"{bundle}/{DUMP_LOG}")
        line = str(error).partition("\n")[0]
        raise _failure(container, f"{line} path= {bundle}/{DUMP_LOG}") from error


def check_criu(what: str, container: str) -> None:
    """Raise FailedPrecondition on a machine without criu."""
    import shutil

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
