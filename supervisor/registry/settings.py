"""How patient the client of registries is, how much it does at a time, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass, fields

from supervisor.errors import InvalidArgument

_AT_LEAST_ONE = frozenset(("attempts", "parallel_layers", "parallel_chunks", "chunk_bytes"))


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Limits of a transfer. Times in seconds, sizes in bytes, rates in bytes per second; 0 is no limit.

    A request is tried `attempts` times where no other host could answer it. Between two attempts lies
    `backoff`, doubled each time up to `backoff_limit`, less a random part of at most one half; or what the
    host asks for by Retry-After, as long as that is not above `retry_after_limit`.
    """

    attempts: int = 5
    backoff: float = 0.5
    backoff_limit: float = 30.0
    retry_after_limit: float = 60.0

    total: float = 4 * 3600.0
    """From the first request to the last byte, whatever happens."""
    dial_timeout: float = 30.0
    stall_window: float = 30.0
    """A host that sends nothing for so long is given up, and one slower than `stall_rate` over it."""
    stall_rate: float = 1024.0
    """Shared by the connections of a transfer, as they share a line."""
    commit_timeout: float = 300.0
    """How long a host may think about what was pushed before it answers."""

    parallel_layers: int = 3
    parallel_chunks: int = 3
    chunk_bytes: int = 4 << 20
    """Of one blob, this many chunks of this size are fetched at a time, and in memory at most."""
    parallel_below: float = 64e6
    """More connections do not help one that is faster than this: its blob is fetched in one piece."""
    bandwidth: float = 0.0
    """Of all downloads and uploads together; the daemon has one limit for all its transfers."""
    upload_chunk_bytes: int = 0
    """Push blobs larger than this in pieces of this size; 0 sends each in one request."""

    def __post_init__(self) -> None:
        """Raise InvalidArgument for a number that makes no sense."""
        for setting in fields(self):
            value, least = getattr(self, setting.name), 1 if setting.name in _AT_LEAST_ONE else 0
            if not value >= least:
                raise InvalidArgument(f"registry.{setting.name} is {value}, but must be {least} or more")
