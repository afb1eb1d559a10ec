"""Fetching what descriptors name (containerd: core/remotes/docker/fetcher.go)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from supervisor.errors import InvalidArgument
from supervisor.model.descriptor import Descriptor
from supervisor.oci.document import MAX_DOCUMENT_BYTES
from supervisor.oci.references import Reference
from supervisor.registry.download import READ_SIZE, Download, Reader
from supervisor.registry.failures import Account
from supervisor.registry.parallel import ParallelDownload
from supervisor.registry.repository import Repository
from supervisor.registry.session import Session
from supervisor.registry.sources import Sources
from supervisor.registry.verify import Verifying

SLOT_POLL = 0.5


class Fetcher:
    """Fetches from the repository of `reference` within one transfer; callable from any thread."""

    def __init__(self, session: Session, reference: Reference) -> None:
        """Raises InvalidArgument when the registry's configuration is wrong."""
        self._session = session
        self._repository = Repository(session, reference)
        self._distrusted: frozenset[str] = frozenset()

    def open(self, descriptor: Descriptor, offset: int = 0, running: hashlib._Hash | None = None) -> Reader:
        """The bytes of a manifest or blob from `offset` on; to be closed. The first read sends the request.

        Digest and size are verified at the end, as `Verifying` does. With an offset this needs `running`,
        the hash of the bytes before it; without that, whoever has the whole has to verify it. At most
        `parallel_layers` readers are open at a time: opening one more waits until one is closed.
        """
        reader = self._reader(descriptor, offset, running)
        with self._session.timed(Account(f"fetch {descriptor.digest}", reference=self._repository.name)):
            self._take_slot()
        return _Slotted(reader, self._session.layers.release)

    def fetch_into(
        self,
        descriptor: Descriptor,
        sink: Callable[[bytes], object],
        offset: int = 0,
        on_bytes: Callable[[int], object] | None = None,
        running: hashlib._Hash | None = None,
    ) -> None:
        """Give all bytes from `offset` on to `sink`, in order, and their count to `on_bytes`; see `open`."""
        reader = self.open(descriptor, offset, running)
        try:
            while data := reader.read(READ_SIZE):
                sink(data)
                if on_bytes is not None:
                    on_bytes(len(data))
        finally:
            reader.close()

    def read(self, descriptor: Descriptor) -> bytes:
        """A whole document, like a manifest or a config, whatever layers are being fetched.

        Raises InvalidArgument for a size that none has.
        """
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise InvalidArgument(
                f"fetch {descriptor.digest}: {descriptor.size} bytes are no document,"
                f" which have at most {MAX_DOCUMENT_BYTES}"
            )
        reader = self._reader(descriptor, 0, None)
        pieces: list[bytes] = []
        try:
            while data := reader.read(READ_SIZE):
                pieces.append(data)
        finally:
            reader.close()
        return b"".join(pieces)

    def _reader(self, descriptor: Descriptor, offset: int, running: hashlib._Hash | None) -> Reader:
        if not 0 <= offset <= descriptor.size:
            raise InvalidArgument(f"fetch {descriptor.digest} from {offset}: it has {descriptor.size} bytes")
        sources = Sources(self._repository, descriptor, self._distrusted)
        inner = self._download(sources, offset, descriptor.size)
        if offset and running is None:
            return inner
        return Verifying(
            inner,
            descriptor,
            lambda received: replace(sources.account(received), host=", ".join(inner.hosts)),
            running=running,
            offset=offset,
            mismatched=lambda: self._distrust(inner.hosts),
        )

    def _download(self, sources: Sources, offset: int, size: int) -> Download | ParallelDownload:
        settings = self._session.settings
        worthwhile = size - offset > 2 * settings.chunk_bytes and settings.chunk_bytes > 0
        if worthwhile and settings.parallel_chunks > 1 and settings.parallel_below > 0:
            return ParallelDownload(self._session, sources, offset, size)
        return Download(self._session, sources, offset, size)

    def _take_slot(self) -> None:
        while not self._session.layers.acquire(timeout=SLOT_POLL):
            self._session.deadline.check()

    def _distrust(self, hosts: list[str]) -> None:
        """Ask others first from now on; another attempt then has a chance to end better."""
        self._distrusted |= frozenset(hosts)


class _Slotted:
    """A reader that gives its place back when it is closed."""

    def __init__(self, reader: Reader, release: Callable[[], None]) -> None:
        self._reader = reader
        self._release: Callable[[], None] | None = release

    def read(self, size: int = READ_SIZE, /) -> bytes:
        return self._reader.read(size)

    def close(self) -> None:
        self._reader.close()
        release, self._release = self._release, None
        if release is not None:
            release()
