"""What the daemon and its worker do with a layer before there are files."""

from __future__ import annotations

import contextlib
import io

from supervisor.diff import bounded
from supervisor.diff.limits import Limits
from supervisor.diff.tar_reader import TarReader
from supervisor.errors import SupervisorError

LIMITS = Limits(max_bytes=8 << 20, max_entries=3000, max_ratio=5000, ratio_from_bytes=1 << 20)
"""So small that a layer which reaches them takes no time; `tests.diff.ground` unpacks with them, too."""


def read(blob: bytes) -> None:
    """Read all of a layer; whatever it is, the only errors are ours."""
    with contextlib.suppress(SupervisorError):
        plain = b"".join(bounded.plain(io.BytesIO(blob), LIMITS, by_magic=True))
        reader = TarReader(io.BytesIO(plain))
        for entry in reader:
            LIMITS.check_size(entry.shown(), entry.size)
            for _ in reader.data():
                pass
