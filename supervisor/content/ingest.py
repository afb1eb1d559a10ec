"""One ingest on disk: a folder with the bytes so far and what is known of them (contract 6.6).

    data       the bytes; what is in it counts, so a write that was cut off is resumed behind its last byte
    ref        the ref in full, since the folder's name is only its hash
    startedat  updatedat    RFC 3339; the time of `data` wins when it is newer
    total      the announced size, only if one was

The running digest is in memory; after a restart it is rebuilt by reading. (containerd:
plugins/content/local/writer.go)
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from supervisor.content.failures import translated
from supervisor.content.store import Status
from supervisor.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, SupervisorError
from supervisor.kernel.files import fsync_directory
from supervisor.model import digest as digests
from supervisor.model import instant
from supervisor.model.digest import Digest
from supervisor.model.instant import Nanoseconds

READ_SIZE = 1 << 20
"""Bytes read at a time; large enough that hashing runs without the interpreter's lock."""

BLOB_MODE = 0o444
INGEST_MODE = 0o600


def read_status(folder: Path) -> Status:
    """What the folder says of its ingest; raises NotFound when there is none."""
    with translated(f"look at the ingest {folder.name}"):
        try:
            facts = os.stat(folder / "data")
            ref = (folder / "ref").read_text()
        except FileNotFoundError:
            raise NotFound(f"ingest {folder.name}") from None
        return Status(
            ref=ref,
            offset=facts.st_size,
            total=_read_total(folder),
            started_at=_read_time(folder / "startedat", facts.st_mtime_ns),
            updated_at=max(_read_time(folder / "updatedat", 0), Nanoseconds(facts.st_mtime_ns)),
        )


def remove(folder: Path) -> bool:
    """Remove an ingest, its bytes first; False when there was none."""
    with translated(f"remove the ingest {folder.name}"):
        try:
            names = sorted(os.listdir(folder), key=lambda name: name != "data")
        except FileNotFoundError:
            return False
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(folder / name)
        with suppress(FileNotFoundError):
            os.rmdir(folder)
        return True


def _read_total(folder: Path) -> int:
    try:
        return int((folder / "total").read_text())
    except (FileNotFoundError, ValueError):
        return 0


def _read_time(path: Path, otherwise: int) -> Nanoseconds:
    """The time in a file; a power cut may have left it empty, which costs no more than the time."""
    try:
        return instant.parse_rfc3339(path.read_text().strip())
    except (FileNotFoundError, InvalidArgument):
        return Nanoseconds(otherwise)


class IngestWriter:
    """An ingest held open; see supervisor.content.store.Writer for what its methods promise."""

    def __init__(
        self,
        folder: Path,
        blob_path: Callable[[Digest], Path],
        ref: str,
        total: int,
        released: Callable[[], None],
    ) -> None:
        """Open or create `folder`; `released` is called once, when the writer lets go of the ref."""
        self._folder = folder
        self._blob_path = blob_path
        self._ref = ref
        self._released = released
        self._lock = threading.RLock()
        self._closed = False
        with translated(f"open the ingest of ref {ref}"):
            self._begin(total)

    def _begin(self, total: int) -> None:
        self._start_over_if_unfit(total)
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # a commit that failed half way has made it read-only
            os.chmod(self._folder / "data", INGEST_MODE)
        descriptor = os.open(
            self._folder / "data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, INGEST_MODE
        )
        try:
            if not (self._folder / "startedat").exists():
                self._describe(total)
            status = read_status(self._folder)
            self._hash = hashlib.sha256()
            self._offset = _feed(descriptor, self._hash.update)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._total = status.total
        self._started_at = status.started_at
        self._updated_at = status.updated_at

    def _start_over_if_unfit(self, total: int) -> None:
        """Remove what lies there when another size was announced, or when its bytes are a blob already.

        The latter is left when removing a committed ingest failed: one inode, two names, and
        writing on would change the blob.
        """
        with suppress(NotFound):
            stored = read_status(self._folder)
            linked = os.stat(self._folder / "data").st_nlink > 1
            if linked or (total and stored.total and total != stored.total):
                remove(self._folder)

    def _describe(self, total: int) -> None:
        now = instant.format_rfc3339(instant.now())
        (self._folder / "ref").write_text(self._ref)
        (self._folder / "updatedat").write_text(now)
        if total > 0:
            (self._folder / "total").write_text(str(total))
        (self._folder / "startedat").write_text(now)

    def status(self) -> Status:
        """Offset and times as they stand now."""
        with self._lock:
            return Status(self._ref, self._offset, self._total, self._started_at, self._updated_at)

    def digest(self) -> Digest:
        """The sha256 of the bytes stored so far."""
        with self._lock:
            return digests.from_hash(self._hash)

    def append(self, data: bytes) -> None:
        """Store `data` behind what is there."""
        with self._using("write to"):
            left = memoryview(data)
            while left:
                written = os.pwrite(self._descriptor, left, self._offset + len(data) - len(left))
                if not written:
                    raise DataLoss(
                        f"write to the ingest of ref {self._ref}: the disk took less than was sent"
                    )
                left = left[written:]
            self._hash.update(data)
            self._offset += len(data)
            self._updated_at = instant.now()

    def reader(self) -> BinaryIO:
        """The file of the bytes, for reading along."""
        with self._using("read along"):
            return open(f"/proc/self/fd/{self._descriptor}", "rb", buffering=0)

    def truncate(self) -> None:
        """Forget all bytes and start from zero."""
        with self._using("truncate"):
            os.ftruncate(self._descriptor, 0)
            self._hash = hashlib.sha256()
            self._offset = 0
            self._updated_at = instant.now()

    def start_over(self, total: int) -> None:
        """Forget all, times and announced size too, as if the ingest were new."""
        with self._using("start over"):
            stale = self._descriptor
            remove(self._folder)
            self._begin(total)
            os.close(stale)

    def seal(self, total: int, expected: str) -> Digest:
        """Check the bytes against `total` and `expected` and make them durable; answers their digest."""
        with self._using("commit"):
            if total > 0 and total != self._offset:
                raise FailedPrecondition(
                    f"commit of ref {self._ref}: it has {self._offset} bytes, and {total} were announced;"
                    " write the rest, or start over from offset 0"
                )
            found = self._digest_like(expected)
            if expected and found != expected:
                raise FailedPrecondition(
                    f"commit of ref {self._ref}: its bytes have the digest {found},"
                    f" and {expected} was expected; start over from offset 0"
                )
            os.fsync(self._descriptor)
            return found

    def _digest_like(self, expected: str) -> Digest:
        """The digest of the bytes, by the algorithm of `expected`, whose hex may be anything."""
        algorithm = _algorithm(expected) if expected else digests.CANONICAL
        if algorithm == digests.CANONICAL:
            return digests.from_hash(self._hash)
        rehashed = hashlib.new(algorithm)
        _feed(self._descriptor, rehashed.update)
        return digests.from_hash(rehashed)

    def install(self, digest: Digest, *, replace: bool) -> None:
        """Give the bytes a second name, that of the blob, durably.

        A link and not a rename: should the daemon die before the blob is recorded, the ingest is
        whole and can be committed again.
        """
        with self._using("commit"):
            path = self._blob_path(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not replace:
                return
            os.fchmod(self._descriptor, BLOB_MODE)
            self._link(path)
            fsync_directory(path.parent)
            fsync_directory(path.parent.parent)

    def _link(self, path: Path) -> None:
        source = self._folder / "data"
        temporary = path.parent / f".{path.name}"
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        try:
            os.link(source, temporary)
        except FileNotFoundError:
            raise SupervisorError(
                f"commit of ref {self._ref}: the ingest was aborted meanwhile; write it again"
            ) from None
        os.replace(temporary, path)

    def discard(self) -> None:
        """Remove the ingest with its bytes, and close."""
        with self._lock:
            if not self._closed:
                try:
                    remove(self._folder)
                finally:
                    self._let_go()

    def close(self) -> None:
        """Let go of the ref; the ingest stays. Closing twice is fine."""
        with self._lock:
            if not self._closed:
                with suppress(OSError):  # the time is a nicety, and the folder may be gone by an abort
                    (self._folder / "updatedat").write_text(instant.format_rfc3339(self._updated_at))
                self._let_go()

    def _let_go(self) -> None:
        self._closed = True
        os.close(self._descriptor)
        self._released()

    @contextmanager
    def _using(self, doing: str) -> Iterator[None]:
        """Alone, open, and closed again if the operating system fails us."""
        with self._lock, translated(f"{doing} the ingest of ref {self._ref}"):
            if self._closed:
                raise FailedPrecondition(
                    f"{doing} the ingest of ref {self._ref}: it was closed; open the ref again"
                )
            try:
                yield
            except (OSError, DataLoss):
                self.close()
                raise


def _algorithm(expected: str) -> str:
    """The algorithm that a digest names; raises InvalidArgument for one without, or unknown here."""
    algorithm, colon, _ = expected.partition(":")
    if not colon or algorithm not in digests.HEX_LENGTH:
        digests.digest(expected)
    return algorithm


def _feed(descriptor: int, consume: Callable[[bytes], None]) -> int:
    """Hand all bytes of a file to `consume`, piece by piece; answers how many there were."""
    offset = 0
    while piece := os.pread(descriptor, READ_SIZE, offset):
        consume(piece)
        offset += len(piece)
    return offset
