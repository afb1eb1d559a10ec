"""What a layer may become at most, so that a small blob cannot fill a disk. (containerd has no such bounds.)

Pure; the worker that unpacks holds to it, too. See `bounded` for the bytes, `unpack` for the entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from supervisor.errors import ResourceExhausted
from supervisor.model.digest import Digest


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one layer, 0 for none: its bytes and entries when unpacked, and by how much it may grow.

    Directories that an entry only implies count as entries. The ratio is looked at from `ratio_from_bytes`
    on: what is small may be compressed as well as it likes. The defaults are what no real image comes near
    to: the largest layers have some tens of GiB and a million files, and shrink to a twentieth, while a
    bomb of gzip grows a thousandfold, one of zstd much more.
    """

    max_bytes: int = 256 << 30
    max_entries: int = 10_000_000
    max_ratio: int = 200
    ratio_from_bytes: int = 4 << 30

    def check_bytes(self, made: int, read: int) -> None:
        """Raise ResourceExhausted when `made` bytes that `read` ones were unpacked to are too many."""
        if self.max_bytes and made > self.max_bytes:
            raise _exceeded(
                "max_bytes",
                f"unpacked it has more than {self.max_bytes} bytes, of which {read} were read so far",
            )
        if self.max_ratio and made > self.ratio_from_bytes and made > self.max_ratio * read:
            raise _exceeded(
                "max_ratio",
                f"unpacked it has {made} bytes, more than {self.max_ratio} times the {read} read so far",
            )

    def check_size(self, shown: str, size: int) -> None:
        """Raise ResourceExhausted when one file alone, finished, would be larger than a layer may be."""
        if self.max_bytes and size > self.max_bytes:
            raise _exceeded(
                "max_bytes", f"{shown} claims {size} bytes, a layer may have {self.max_bytes} unpacked"
            )

    def check_entries(self, made: int) -> None:
        """Raise ResourceExhausted when `made` files and directories are too many."""
        if self.max_entries and made > self.max_entries:
            raise _exceeded("max_entries", f"it makes more than {self.max_entries} files and directories")


DEFAULT_LIMITS = Limits()
NO_LIMITS = Limits(0, 0, 0, 0)


@contextmanager
def of_layer(digest: Digest | str) -> Iterator[None]:
    """Say of which layer a limit was met."""
    try:
        yield
    except ResourceExhausted as error:
        raise ResourceExhausted(f"layer {digest}: {error}") from error


def _exceeded(setting: str, met: str) -> ResourceExhausted:
    return ResourceExhausted(f"{met}; if you trust it, raise {setting} in [diff.limits]")
