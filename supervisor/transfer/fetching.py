"""Blobs brought from a registry into the content store: never twice, and resumed where they were cut off.

Bytes go into an ingest that outlives the daemon, under the name that every client of containerd uses
(`layer-sha256:...`); the ingest is the journal of what was fetched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from supervisor.errors import AlreadyExists, DataLoss, FailedPrecondition, Unavailable
from supervisor.metadata.content_ingest import Ingest
from supervisor.model.descriptor import Descriptor
from supervisor.registry.fetcher import Fetcher
from supervisor.transfer.growing import Growing
from supervisor.transfer.progress import Part, part_name
from supervisor.transfer.stores import Scope

POLL_SECONDS = 0.2
"""Between two looks at a blob that another transfer is bringing."""


class Fetching:
    """Brings blobs of one repository."""

    def __init__(
        self, scope: Scope, fetcher: Fetcher, labels: Mapping[str, str], check: Callable[[], None]
    ) -> None:
        """`labels` are given to every blob; `check` raises once the transfer is given up."""
        self._scope = scope
        self._fetcher = fetcher
        self._labels = labels
        self._check = check

    def document(self, target: Descriptor, part: Part) -> bytes:
        """A manifest or configuration: from the store, or fetched; not stored here."""
        if self._scope.has(target.digest):
            part.exists()
            return self._scope.document(target)
        data = self._fetcher.read(target)
        part.complete()
        return data

    def blob(self, target: Descriptor, part: Part, growing: Growing) -> None:
        """Have the store hold the blob; `growing` lets others read along. Raises a RegistryError."""
        try:
            self._bring(target, part, growing)
        except BaseException as error:
            growing.end(error)
            raise
        growing.end()

    def _bring(self, target: Descriptor, part: Part, growing: Growing) -> None:
        while True:
            self._check()
            if self._scope.has(target.digest):
                self._found(target, part, growing)
                return
            try:
                ingest = self._open(target)
            except AlreadyExists:
                continue
            except Unavailable:  # another transfer writes it
                time.sleep(POLL_SECONDS)
                continue
            try:
                self._fill(ingest, target, part, growing)
                return
            finally:
                ingest.close()

    def _found(self, target: Descriptor, part: Part, growing: Growing) -> None:
        self._scope.label(target.digest, self._labels)
        growing.begin(self._scope.open(target.digest), target.size)
        part.exists()

    def _open(self, target: Descriptor) -> Ingest:
        scope = self._scope
        return scope.stores.content.open_ingest(
            scope.namespace, part_name(target), scope.lease, total=target.size, expected=target.digest
        )

    def _fill(self, ingest: Ingest, target: Descriptor, part: Part, growing: Growing) -> None:
        self._scope.worthwhile = True
        offset = ingest.status().offset
        if offset > target.size:
            ingest.truncate()
            offset = 0
        growing.begin(ingest.reader(), offset)
        try:
            if offset < target.size:
                self._download(ingest, target, offset, part, growing)
            self._commit(ingest, target)
        except DataLoss:
            with suppress(FailedPrecondition):
                ingest.truncate()  # bytes that are wrong are not resumed
            raise
        part.complete()

    def _commit(self, ingest: Ingest, target: Descriptor) -> None:
        try:
            ingest.commit(target.size, target.digest, self._labels)
        except AlreadyExists:
            self._scope.label(target.digest, self._labels)
        except FailedPrecondition as error:
            raise DataLoss(f"blob {target.digest} did not arrive as it is: {error}") from error

    def _download(
        self, ingest: Ingest, target: Descriptor, offset: int, part: Part, growing: Growing
    ) -> None:
        reader = self._fetcher.open(target, offset)
        try:
            while data := reader.read():
                self._check()
                ingest.append(data)
                offset += len(data)
                growing.at(offset)
                part.at(offset)
        finally:
            reader.close()
