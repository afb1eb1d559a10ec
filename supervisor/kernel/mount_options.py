"""fstab words to mount flags and data (containerd: core/mount, parseMountOptions). Pure.

Words that the kernel knows as flags become bits; the propagation words become a second mount call;
`loop`, `uidmap=` and `gidmap=` are work for the caller; all else is data for the filesystem.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MS_RDONLY = 1
MS_NOSUID = 1 << 1
MS_NODEV = 1 << 2
MS_NOEXEC = 1 << 3
MS_SYNCHRONOUS = 1 << 4
MS_REMOUNT = 1 << 5
MS_MANDLOCK = 1 << 6
MS_DIRSYNC = 1 << 7
MS_NOSYMFOLLOW = 1 << 8
MS_NOATIME = 1 << 10
MS_NODIRATIME = 1 << 11
MS_BIND = 1 << 12
MS_REC = 1 << 14
MS_SILENT = 1 << 15
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

# Flags that belong to one mount, not to the filesystem: a bind takes them only by a remount.
PER_MOUNT = (
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOSYMFOLLOW
    | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME
)  # fmt: skip

_SETS = {
    "ro": MS_RDONLY, "nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC, "sync": MS_SYNCHRONOUS,
    "remount": MS_REMOUNT, "mand": MS_MANDLOCK, "dirsync": MS_DIRSYNC, "nosymfollow": MS_NOSYMFOLLOW,
    "noatime": MS_NOATIME, "nodiratime": MS_NODIRATIME, "bind": MS_BIND, "rbind": MS_BIND | MS_REC,
    "silent": MS_SILENT, "relatime": MS_RELATIME, "iversion": MS_I_VERSION, "strictatime": MS_STRICTATIME,
    "lazytime": MS_LAZYTIME,
}  # fmt: skip
_CLEARS = {
    "defaults": 0, "rw": MS_RDONLY, "suid": MS_NOSUID, "dev": MS_NODEV, "exec": MS_NOEXEC,
    "async": MS_SYNCHRONOUS, "nomand": MS_MANDLOCK, "symfollow": MS_NOSYMFOLLOW, "atime": MS_NOATIME,
    "diratime": MS_NODIRATIME, "loud": MS_SILENT, "norelatime": MS_RELATIME, "noiversion": MS_I_VERSION,
    "nostrictatime": MS_STRICTATIME, "nolazytime": MS_LAZYTIME,
}  # fmt: skip
_PROPAGATION = {
    "private": MS_PRIVATE, "rprivate": MS_PRIVATE | MS_REC,
    "shared": MS_SHARED, "rshared": MS_SHARED | MS_REC,
    "slave": MS_SLAVE, "rslave": MS_SLAVE | MS_REC,
    "unbindable": MS_UNBINDABLE, "runbindable": MS_UNBINDABLE | MS_REC,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the words of one mount mean; `cleared` holds the bits that a word switched off expressly."""

    flags: int = 0
    cleared: int = 0
    propagation: tuple[int, ...] = ()
    data: tuple[str, ...] = ()
    loop: bool = False
    uid_map: str = ""
    gid_map: str = ""

    @property
    def bind(self) -> bool:
        """Whether this attaches an existing tree instead of a filesystem."""
        return bool(self.flags & MS_BIND)

    @property
    def read_only(self) -> bool:
        """Whether nothing may be written through this mount."""
        return bool(self.flags & MS_RDONLY)

    @property
    def id_mapped(self) -> bool:
        """Whether owners are to be shifted."""
        return bool(self.uid_map or self.gid_map)


def parse(options: Iterable[str]) -> Parsed:
    """Sort the words; a later word wins over an earlier one."""
    flags = cleared = 0
    propagation: list[int] = []
    data: list[str] = []
    special = {"uidmap": "", "gidmap": ""}
    loop = False
    for word in options:
        key, equals, value = word.partition("=")
        if word in _SETS:
            flags, cleared = flags | _SETS[word], cleared & ~_SETS[word]
        elif word in _CLEARS:
            flags, cleared = flags & ~_CLEARS[word], cleared | _CLEARS[word]
        elif word in _PROPAGATION:
            propagation.append(_PROPAGATION[word])
        elif word == "loop":
            loop = True
        elif equals and key in special:
            special[key] = value
        elif word:
            data.append(word)
    return Parsed(flags, cleared, tuple(propagation), tuple(data), loop, special["uidmap"], special["gidmap"])
