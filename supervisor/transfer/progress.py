"""What a transfer tells of itself (containerd: core/transfer; its clients draw trees of it)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.model.descriptor import Descriptor
from supervisor.oci import image

_KINDS = (
    (image.MANIFEST_TYPES, "manifest"),
    (image.INDEX_TYPES, "index"),
    (image.CONFIG_TYPES, "config"),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that happened: to the part `name`, which belongs to the parts `parents`; sizes in bytes."""

    event: str
    name: str = ""
    parents: tuple[str, ...] = ()
    progress: int = 0
    total: int = 0
    descriptor: Descriptor | None = None


Report = Callable[[Progress], None]
"""Is told of progress; may be called from any thread, and never blocks."""


def silent(progress: Progress) -> None:
    """A report that tells nobody."""


def part_name(descriptor: Descriptor) -> str:
    """What a blob is called in progress and as an ingest, as all clients of containerd call it."""
    for types, kind in _KINDS:
        if descriptor.media_type in types:
            return f"{kind}-{descriptor.digest}"
    kind = "layer" if ".layer." in descriptor.media_type or ".diff." in descriptor.media_type else "unknown"
    return f"{kind}-{descriptor.digest}"


class Part:
    """Tells of one blob; how far it is, at most once for each hundredth of it."""

    def __init__(self, report: Report, descriptor: Descriptor, parent: str, doing: str) -> None:
        """`doing` is the event of being on the way, `downloading` or `uploading`."""
        self._report = report
        self._descriptor = descriptor
        self._parents = (parent,)
        self._doing = doing
        self._done = self._told = 0
        self._lock = threading.Lock()
        self._tell("waiting", 0)

    def at(self, offset: int) -> None:
        """So many bytes are there."""
        with self._lock:
            self._done = offset
            if abs(offset - self._told) < max(1, self._descriptor.size // 100):
                return
            self._told = offset
        self._tell(self._doing, offset)

    def complete(self) -> None:
        """All is there."""
        self._tell("complete", self._descriptor.size)

    def exists(self) -> None:
        """It was there before."""
        self._tell("already exists", self._descriptor.size)

    def _tell(self, event: str, done: int) -> None:
        blob = self._descriptor
        self._report(Progress(event, part_name(blob), self._parents, done, blob.size, blob))


class Extraction:
    """Tells of one layer that is being unpacked; how far it is, at most once for each hundredth of it."""

    def __init__(self, report: Report, descriptor: Descriptor, parent: str) -> None:
        self._report = report
        self._descriptor = descriptor
        self._parent = parent
        self._told = -1

    def at(self, offset: int) -> None:
        """So many of its bytes, as they came, are unpacked."""
        if self._told < 0 or offset - self._told >= max(1, self._descriptor.size // 100):
            self._told = offset
            self._tell("extracting", offset)

    def done(self) -> None:
        """Its snapshot is there."""
        self._tell("extracted", self._descriptor.size)

    def _tell(self, event: str, done: int) -> None:
        blob = self._descriptor
        self._report(Progress(event, part_name(blob), (self._parent,), done, blob.size, blob))
