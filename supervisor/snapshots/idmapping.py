"""Labels that shift the owners in a snapshot (containerd: core/snapshots, WithRemapperLabels).

A value is a comma list of `container:host:size`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.errors import SupervisorError

LABEL_UID_MAP = "containerd.io/snapshot/uidmapping"
LABEL_GID_MAP = "containerd.io/snapshot/gidmapping"

_RANGE = re.compile(r"(\d{1,10}):(\d{1,10}):(\d{1,10})")
_LARGEST_ID = 2**32 - 1


@dataclass(frozen=True, slots=True)
class IdMapping:
    """Both labels' values, empty where there is none, and which ids of the host the container's root has."""

    uid_map: str
    gid_map: str
    root_uid: int
    root_gid: int

    def options(self) -> tuple[str, ...]:
        """The mount options that ask for these shifts."""
        named = (("uidmap", self.uid_map), ("gidmap", self.gid_map))
        return tuple(f"{name}={value}" for name, value in named if value)


def from_labels(labels: Mapping[str, str]) -> IdMapping | None:
    """The mapping that `labels` ask for, None without any; an error when one cannot be understood."""
    uid_map, gid_map = labels.get(LABEL_UID_MAP, ""), labels.get(LABEL_GID_MAP, "")
    if not uid_map and not gid_map:
        return None
    # A missing second label means that its ids are not shifted.
    root_uid = _host_root(uid_map, LABEL_UID_MAP) if uid_map else 0
    root_gid = _host_root(gid_map, LABEL_GID_MAP) if gid_map else 0
    return IdMapping(uid_map, gid_map, root_uid, root_gid)


def _host_root(value: str, label: str) -> int:
    for text in value.split(","):
        container, host, size = _range(text, label)
        if container == 0 and size > 0:
            return host
    raise SupervisorError(f"label {label}={value!r} maps no id of the host to the container's id 0")


def _range(text: str, label: str) -> tuple[int, int, int]:
    match = _RANGE.fullmatch(text)
    if match is None or max(map(int, match.groups())) > _LARGEST_ID:
        raise SupervisorError(f"label {label}: {text!r} is not container:host:size in 32-bit numbers")
    container, host, size = map(int, match.groups())
    return container, host, size
