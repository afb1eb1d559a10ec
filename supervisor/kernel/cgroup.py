"""Where a process's cgroup lies, in v1's hierarchies or in v2's, and its files (containerd: cgroups).

A hybrid host has both; there the controllers are v1's, and v2 is looked at only when nothing else is
mounted. What a file says is read anew each time, and a file that is not there says nothing: which
exist depends on the kernel, its version and the host's set-up.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

UNIFIED = ""
"""What stands in place of a controller's name for the folder in v2's one hierarchy."""

UNLIMITED = 2**64 - 1
"""What a limit called `max` counts as."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The folders of one cgroup, by controller; `UNIFIED` has one as well where v2 is mounted."""

    folders: Mapping[str, str]

    @property
    def is_unified(self) -> bool:
        """Whether v2 is all there is."""
        return self.folders.keys() == {UNIFIED}

    def folder(self, controller: str) -> str | None:
        """The folder with the files of a controller."""
        return self.folders.get(UNIFIED if self.is_unified else controller)

    def text(self, controller: str, file: str) -> str:
        """What a file says; nothing when there is none."""
        folder = self.folder(controller)
        if folder is None:
            return ""
        try:
            # UTF-8, which is loaded: another encoding would be, by each shim for itself.
            with open(f"{folder}/{file}", encoding="utf-8", errors="replace") as opened:
                return opened.read()
        # Some files are there and cannot be read, because what they tell of is switched off.
        except OSError:
            return ""

    def number(self, controller: str, file: str) -> int:
        """The one figure in a file; 0 when there is none."""
        return figure(self.text(controller, file))

    def table(self, controller: str, file: str) -> dict[str, int]:
        """The figures in a file of lines `name figure`."""
        words = (line.split() for line in self.text(controller, file).splitlines())
        return {pair[0]: figure(pair[1]) for pair in words if len(pair) == 2}


def figure(text: str) -> int:
    """A figure as the kernel writes it: digits, `max`, or nothing that counts."""
    word = text.strip()
    if word == "max":
        return UNLIMITED
    return int(word) if word.isdecimal() else 0


def cgroup_of(pid: int) -> Cgroup:
    """The cgroup that a process is in now; raises OSError when there is no such process."""
    mounted = _hierarchies()
    folders: dict[str, str] = {}
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                folder = _below(mounted.get(controller), path)
                if folder is not None:
                    folders[controller] = folder
    return Cgroup(folders)


def remove_empty(path: str, seconds: float = 1.0) -> None:
    """Remove the cgroup at `path` from every hierarchy where it is empty; one in use stays.

    What is dying in it gets so much time: the kernel lets go of a cgroup only after its last process.
    """
    deadline = time.monotonic() + seconds
    for mount in set(_hierarchies().values()):
        folder = _below(mount, os.path.normpath(path))
        while folder is not None and not _removed(folder) and time.monotonic() < deadline:
            time.sleep(0.01)


def _removed(folder: str) -> bool:
    """Whether there is nothing more to do about a folder."""
    try:
        os.rmdir(folder)
    except OSError as error:
        return error.errno != errno.EBUSY
    return True


def _hierarchies() -> dict[str, tuple[str, str]]:
    """By controller: where its hierarchy is mounted, and which of its cgroups is the mount's root."""
    found: dict[str, tuple[str, str]] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            head, _, tail = line.rstrip("\n").partition(" - ")
            kind, _, options = tail.split(" ", 2)
            if kind not in ("cgroup", "cgroup2"):
                continue
            root, point = head.split(" ")[3:5]
            for controller in (UNIFIED,) if kind == "cgroup2" else options.split(","):
                found.setdefault(controller, (point, root))
    return found


def _below(mount: tuple[str, str] | None, path: str) -> str | None:
    """The folder of the cgroup at `path` of its hierarchy; None when it is not in reach of the mount."""
    if mount is None:
        return None
    point, root = mount
    inside = os.path.relpath(path, root)
    if inside.startswith(".."):
        return None
    return point if inside == "." else f"{point}/{inside}"
