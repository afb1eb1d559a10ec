"""One entry of a tar archive, whatever dialect it was written in (containerd: archive/tar's Header)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Kind(enum.Enum):
    """What an entry makes."""

    FILE = "regular file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    CHARACTER = "character device"
    BLOCK = "block device"
    FIFO = "fifo"
    GLOBAL = "global header"
    UNKNOWN = "entry of unknown type"


@dataclass(slots=True)
class Entry:
    """An entry as the archive tells it; nothing here has been checked against a file system.

    Names are bytes, because file names are. `size` is that of the finished file; times are in
    nanoseconds since 1970 and may be negative; `atime` is 0 when not given.
    """

    kind: Kind
    name: bytes
    link: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    atime: int = 0
    major: int = 0
    minor: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)

    def shown(self) -> str:
        """The name for messages."""
        return repr(self.name[:200].decode("utf-8", "replace"))
