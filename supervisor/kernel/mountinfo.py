"""What is mounted where: /proc/self/mountinfo (containerd: core/mount, through moby/sys/mountinfo)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_ESCAPED = {ord(character): f"\\{ord(character):03o}" for character in " \t\n\\"}
"""How the kernel writes what would break a line apart (man 5 proc, `mountinfo`)."""


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line: the mount's id, where it is attached, what kind it is, from what and how."""

    mount_id: int
    mount_point: str
    fstype: str
    source: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]


def _unescaped(field: bytes) -> str:
    raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field)
    return raw.decode("utf-8", "surrogateescape")


def parse_line(line: bytes) -> MountEntry:
    """One line of mountinfo; its optional fields end at a single dash."""
    head, _, tail = line.partition(b" - ")
    fields, kind = head.split(b" "), tail.split(b" ")
    return MountEntry(
        mount_id=int(fields[0]),
        mount_point=_unescaped(fields[4]),
        fstype=_unescaped(kind[0]),
        source=_unescaped(kind[1]),
        options=tuple(_unescaped(fields[5]).split(",")),
        super_options=tuple(_unescaped(kind[2]).split(",")),
    )


def mount_table() -> list[MountEntry]:
    """All mounts of this process's mount namespace, parents before children."""
    return [parse_line(line) for line in _TABLE.read_bytes().splitlines()]


def mounts_below(root: Path) -> list[MountEntry]:
    """The mounts on `root` and below it, deepest first; `root` need not exist.

    A busy host's table is long: only lines with the name in them are taken apart.
    """
    place = _real(root)
    named = os.fsencode(place.translate(_ESCAPED))
    lines = [line for line in _TABLE.read_bytes().splitlines() if named in line]
    found = [entry for entry in map(parse_line, lines) if f"{entry.mount_point}/".startswith(f"{place}/")]
    return sorted(found, key=lambda entry: entry.mount_point.count("/"), reverse=True)


def _real(place: Path) -> str:
    """As the table has it: links on the way are followed, not one in its place; empty for the root itself."""
    try:
        folder = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return str(place)
    try:
        return f"{os.readlink(f'/proc/self/fd/{folder}').rstrip('/')}/{place.name}".rstrip("/")
    finally:
        os.close(folder)
