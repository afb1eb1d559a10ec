"""The file system on which daemons are measured: a fresh ext4 with a journal, in memory.

An ext4 without a journal looks for a new inode among those that were deleted in the last minutes, and a
disk takes some bursts faster than others: on such ground the figures tell how much had been deleted and
written before.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = "/dev/shm"
DISK_BYTES = 4 << 30
"""What is not written takes no memory."""


@contextmanager
def ground(point: Path, *, here: bool = False) -> Iterator[Path]:
    """Where daemons may keep things: the folder `point`, which is made, with a fresh ext4 unless `here`."""
    point.mkdir()
    if here:
        yield point
        return
    with tempfile.TemporaryDirectory(prefix="b-", dir=MEMORY) as made:
        disk = Path(made) / "ext4"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        # Made to the end now: else the kernel would go on with it beside what is measured.
        at_once = "lazy_itable_init=0,lazy_journal_init=0"
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", at_once, str(disk)], check=True)
        subprocess.run(["mount", "-o", "loop", str(disk), str(point)], check=True)
        try:
            yield point
        finally:
            subprocess.run(["umount", str(point)], check=True)
