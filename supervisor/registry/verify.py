"""Digest and size checked while bytes arrive (OCI image spec, descriptor.md, "Verification")."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from supervisor.model import digest as digests
from supervisor.model.descriptor import Descriptor
from supervisor.registry.download import READ_SIZE, Reader
from supervisor.registry.failures import Account, RegistryDataLoss


class Verifying:
    """A reader whose end is reached only by the bytes that the descriptor names.

    The last bytes are handed out before the check, since who reads may be working on them already; so
    nothing may be kept for good before `read` has answered with no bytes.
    """

    def __init__(
        self,
        reader: Reader,
        descriptor: Descriptor,
        account: Callable[[int], Account],
        *,
        running: hashlib._Hash | None = None,
        offset: int = 0,
        mismatched: Callable[[], None] | None = None,
    ) -> None:
        """Check what `reader` gives from `offset` on; `running` has hashed the bytes before, and is copied.

        `account` makes the facts of an error out of the bytes read; `mismatched` is told of wrong bytes.
        """
        algorithm, _ = digests.split(descriptor.digest)
        self._reader = reader
        self._descriptor = descriptor
        self._account = account
        self._hash = running.copy() if running is not None else hashlib.new(algorithm)
        self._offset = offset
        self._mismatched = mismatched or (lambda: None)

    def __enter__(self) -> Verifying:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int = READ_SIZE, /) -> bytes:
        """See Reader; raises RegistryDataLoss in place of the end when the bytes are wrong."""
        data = self._reader.read(size)
        if data:
            self._hash.update(data)
            self._offset += len(data)
            return data
        found = digests.from_hash(self._hash)
        if self._offset != self._descriptor.size or found != self._descriptor.digest:
            self._mismatched()
            raise RegistryDataLoss(
                f"what was sent is not what was asked for: {self._offset} bytes with the digest {found}",
                self._account(self._offset),
            )
        return b""

    def close(self) -> None:
        """See Reader."""
        self._reader.close()
