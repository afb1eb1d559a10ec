"""What a shim reads from a bundle: the spec, and pids that the runtime wrote (containerd: runc/util.go)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from supervisor.errors import InvalidArgument, SupervisorError

ROOTFS = "rootfs"
INIT_PID_FILE = "init.pid"
ADDRESS_FILE = "address"
CREATING_FILE = "creating"
"""There while the runtime creates: whoever cleans up after a dead shim has to end that first."""

_GROUP_ANNOTATIONS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")

OVERFLOW_ANNOTATION = "container-supervisor.stdio.overflow"
"""`drop`: output that nobody reads is dropped in place of stopping the process; `block` is the default."""


@dataclass(frozen=True, slots=True)
class SpecFacts:
    """The little that a shim has to know of a container's spec."""

    group: str
    private_pids: bool
    poststop: bool
    """Whether hooks run when the container is deleted (OCI runtime spec, config, `hooks.poststop`)."""
    drops: bool


def read_spec(bundle: str) -> SpecFacts:
    """Facts from `config.json`; raises SupervisorError when it cannot be read."""
    try:
        with open(f"{bundle}/config.json", "rb") as file:
            spec: dict[str, Any] = json.load(file)
    except (OSError, ValueError) as error:
        raise SupervisorError(f"read the spec {bundle}/config.json: {error}") from error
    annotations = spec.get("annotations") or {}
    groups = (annotations.get(name, "") for name in _GROUP_ANNOTATIONS)
    namespaces = (spec.get("linux") or {}).get("namespaces") or ()
    private = any(one.get("type") == "pid" and not one.get("path") for one in namespaces)
    poststop = bool((spec.get("hooks") or {}).get("poststop"))
    return SpecFacts(next(filter(None, groups), ""), private, poststop, _drops(annotations))


def _drops(annotations: Mapping[str, str]) -> bool:
    policy = annotations.get(OVERFLOW_ANNOTATION, "block")
    if policy not in ("block", "drop"):
        raise InvalidArgument(f"annotation {OVERFLOW_ANNOTATION} is {policy!r}: block or drop is wanted")
    return policy == "drop"


def read_pid(path: str) -> int:
    """The pid in a file that the runtime wrote; raises SupervisorError."""
    try:
        with open(path, "rb") as file:
            return int(file.read(32))
    except (OSError, ValueError) as error:
        raise SupervisorError(f"read the pid file {path}: {error}") from error


def exec_file(bundle: str, exec_id: str, suffix: str) -> str:
    """A file about one exec. The prefix keeps an exec named `init` apart from init."""
    return f"{bundle}/exec-{exec_id}.{suffix}"


def write_private(path: str, data: bytes) -> None:
    """Create or replace a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(path)
