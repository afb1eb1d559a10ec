"""Values of the content store and what a place for its bytes must do (containerd: core/content).

A blob is immutable and named by its digest. An ingest is a write under way, named by a ref that
its writer chose; it survives its writer, and the daemon, until it is committed or aborted.
Namespaces, leases and labels are not known here: supervisor.metadata.content adds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from supervisor.model.digest import Digest
from supervisor.model.instant import Nanoseconds
from supervisor.model.predicate import Path, entry


@dataclass(frozen=True, slots=True)
class Info:
    """What a namespace knows of a blob."""

    digest: Digest
    size: int
    created_at: Nanoseconds
    updated_at: Nanoseconds
    labels: Mapping[str, str] = field(default_factory=dict)

    def field(self, path: Path) -> str | None:
        """The field that a filter's path names (contract 2)."""
        match path:
            case ("digest", *_):
                return self.digest
            case ("labels", *_):
                return entry(self.labels, path[1:])
        return None


@dataclass(frozen=True, slots=True)
class Status:
    """How far an ingest is; `total` is what was announced when it was created, 0 if nothing was."""

    ref: str
    offset: int
    total: int
    started_at: Nanoseconds
    updated_at: Nanoseconds

    def field(self, path: Path) -> str | None:
        """The field that a filter's path names (contract 2)."""
        return self.ref if path[0] == "ref" else None


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as it lies in the store: what is really there, whoever refers to it."""

    digest: Digest
    size: int


class Writer(Protocol):
    """An open ingest. Its methods may be called from any thread, one call has effect at a time.

    After an error the writer is closed: the bytes that were stored stay, and whoever opens the
    ref again goes on from them.
    """

    def status(self) -> Status:
        """Offset and times as they stand now."""

    def digest(self) -> Digest:
        """The sha256 of the bytes stored so far."""

    def append(self, data: bytes) -> None:
        """Store `data` behind what is there."""

    def reader(self) -> BinaryIO:
        """The bytes, also those yet to come, as a file; it stays readable whatever becomes of them."""

    def truncate(self) -> None:
        """Forget all bytes and start from zero."""

    def start_over(self, total: int) -> None:
        """Forget all, times and announced size too, as if the ingest were new."""

    def seal(self, total: int, expected: str) -> Digest:
        """Check the bytes against `total` (0: any) and `expected` (empty: any), make them durable.

        Answers the digest, of the algorithm that `expected` names, else sha256. Raises
        FailedPrecondition when they do not match; the ingest is kept, and open.
        """

    def install(self, digest: Digest, *, replace: bool) -> None:
        """Make the sealed bytes the blob `digest`, durably; the ingest stays until `discard`.

        An existing blob stays as it is, unless `replace`.
        """

    def discard(self) -> None:
        """Remove the ingest with its bytes, and close."""

    def close(self) -> None:
        """Let go of the ref; the ingest stays. Closing twice is fine."""


class Store(Protocol):
    """A place for bytes."""

    def exclusive(self, digest: Digest) -> AbstractContextManager[None]:
        """Hold everybody else off deciding whether `digest` comes, stays or goes."""

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob, None when there is none."""

    def open(self, digest: Digest) -> BinaryIO:
        """The blob for reading; raises NotFound. A blob removed meanwhile stays readable."""

    def remove(self, digest: Digest) -> bool:
        """Remove the blob; False when there was none."""

    def blobs(self) -> Iterator[StoredBlob]:
        """All blobs, in no order."""

    def writer(self, ref: str, total: int = 0) -> Writer:
        """Open the ingest of `ref`, new or where it stands; raises Unavailable while it is open elsewhere.

        When the announced and the stored total are both known and differ, it starts over.
        """

    def status(self, ref: str) -> Status:
        """The ingest of `ref`; raises NotFound."""

    def ingests(self) -> Iterator[Status]:
        """All ingests, in no order."""

    def abort(self, ref: str) -> None:
        """Remove the ingest of `ref`, also while a writer has it open; raises NotFound."""
