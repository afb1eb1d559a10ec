"""The content store on the local file system, laid out as containerd's (contract 6.6).

    blobs/<algorithm>/<hex>              committed, never changed, mode 0444
    ingest/<sha256 of the ref>/          under way, see supervisor.content.ingest

A blob's name appears only once its bytes are on disk, by a link or a rename inside one file
system. (containerd: plugins/content/local/store.go)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from supervisor.content import ingest
from supervisor.content.failures import translated
from supervisor.content.ingest import IngestWriter
from supervisor.content.locks import RefusingLocks, WaitingLocks
from supervisor.content.store import Status, StoredBlob
from supervisor.errors import InvalidArgument, NotFound
from supervisor.model import digest as digests
from supervisor.model.digest import Digest


class LocalStore:
    """Blobs and ingests below `root`; every method may be called from any thread."""

    def __init__(self, root: Path) -> None:
        """Use `root`, made if missing."""
        self._blobs = root / "blobs"
        self._ingests = root / "ingest"
        self._refs = RefusingLocks()
        self._digests = WaitingLocks()
        with translated(f"open the content store {root}"):
            for folder in (self._blobs, self._ingests):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def exclusive(self, digest: Digest) -> AbstractContextManager[None]:
        """Hold everybody else off deciding whether `digest` comes, stays or goes."""
        return self._digests.holding(digest)

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob lies, or would."""
        return Path(self._name(digest))

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob, None when there is none."""
        with translated(f"look at blob {digest}"):
            try:
                return os.stat(self._name(digest)).st_size
            except FileNotFoundError:
                return None

    def open(self, digest: Digest) -> BinaryIO:
        """The blob for reading, unbuffered; raises NotFound. A blob removed meanwhile stays readable."""
        with translated(f"open blob {digest}"):
            try:
                return open(self._name(digest), "rb", buffering=0)
            except FileNotFoundError:
                raise NotFound(f"blob {digest} has no file in the content store") from None

    def remove(self, digest: Digest) -> bool:
        """Remove the blob; False when there was none.

        The name may come back after a power cut; a blob without a record is collected at start.
        """
        with translated(f"remove blob {digest}"):
            try:
                os.unlink(self.blob_path(digest))
            except FileNotFoundError:
                return False
            return True

    def blobs(self) -> Iterator[StoredBlob]:
        """All blobs, in no order; what has no digest for a name is passed over."""
        with translated("list the blobs"):
            for algorithm in os.listdir(self._blobs):
                if algorithm in digests.HEX_LENGTH:
                    yield from _blobs_in(self._blobs / algorithm, algorithm)

    def writer(self, ref: str, total: int = 0) -> IngestWriter:
        """Open the ingest of `ref`, new or where it stands; raises Unavailable while it is open elsewhere."""
        self._refs.acquire(ref)
        release = partial(self._refs.release, ref)
        try:
            return IngestWriter(self._folder(ref), self.blob_path, ref, total, release)
        except BaseException:
            release()
            raise

    def status(self, ref: str) -> Status:
        """The ingest of `ref`; raises NotFound."""
        try:
            return ingest.read_status(self._folder(ref))
        except NotFound:
            raise NotFound(f"ingest of ref {ref}") from None

    def ingests(self) -> Iterator[Status]:
        """All ingests, in no order; a folder that lost its description is passed over."""
        with translated("list the ingests"):
            for name in os.listdir(self._ingests):
                with suppress(NotFound):
                    yield ingest.read_status(self._ingests / name)

    def ingest_path(self, ref: str) -> Path:
        """Where the ingest of `ref` lies, or would."""
        return self._folder(ref)

    def abort(self, ref: str) -> None:
        """Remove the ingest of `ref`, also while a writer has it open; raises NotFound."""
        if not ingest.remove(self._folder(ref)):
            raise NotFound(f"ingest of ref {ref}")

    @contextmanager
    def idle(self, ref: str) -> Iterator[None]:
        """Hold everybody off opening the ingest of `ref`; raises Unavailable while a writer has it open."""
        self._refs.acquire(ref)
        try:
            yield
        finally:
            self._refs.release(ref)

    def sweep(self, keep: frozenset[str]) -> int:
        """Remove what a crash left: half-made names, and ingests whose ref is not in `keep`.

        Only before serving: it would take open ingests away. Answers how many ingests went.
        """
        kept = {self._folder(ref).name for ref in keep}
        gone = [name for name in os.listdir(self._ingests) if name not in kept]
        for name in gone:
            ingest.remove(self._ingests / name)
        for temporary in self._blobs.glob("*/.*"):
            temporary.unlink(missing_ok=True)
        return len(gone)

    def _name(self, digest: Digest) -> str:
        """As `blob_path`: making a Path takes longer than the kernel to find the file, at each small read."""
        algorithm, encoded = digests.split(digest)
        return f"{self._blobs}/{algorithm}/{encoded}"

    def _folder(self, ref: str) -> Path:
        _, encoded = digests.split(digests.of_bytes(ref.encode()))
        return self._ingests / encoded


def _blobs_in(folder: Path, algorithm: str) -> Iterator[StoredBlob]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(InvalidArgument, FileNotFoundError):
                yield StoredBlob(
                    digests.digest(f"{algorithm}:{entry.name}"), entry.stat(follow_symlinks=False).st_size
                )
