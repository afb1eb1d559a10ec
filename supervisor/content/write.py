"""The protocol of a Write stream: what each message does, apart from gRPC (contract 6.3).

One stream writes one ref. The first message opens it; each message may look (STAT), append
(WRITE) or end it (COMMIT), and is answered. A stream that ends in any other way leaves the
ingest where it is, for whoever opens the ref again. (containerd:
plugins/services/content/contentserver)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Protocol

from supervisor.content.store import Status
from supervisor.errors import AlreadyExists, Cancelled, InvalidArgument, OutOfRange
from supervisor.model.digest import Digest
from supervisor.model.instant import Nanoseconds


class Action(IntEnum):
    """What a message asks for; other numbers are answered with the offset and have no effect."""

    STAT = 0
    WRITE = 1
    COMMIT = 2


@dataclass(frozen=True, slots=True)
class Request:
    """One message of the writer."""

    action: int
    ref: str = ""
    total: int = 0
    expected: str = ""
    offset: int = 0
    data: bytes = b""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. Times and total appear with the first STAT and stay."""

    action: int = Action.STAT
    started_at: Nanoseconds | None = None
    updated_at: Nanoseconds | None = None
    offset: int = 0
    total: int = 0
    digest: str = ""


class Ingest(Protocol):
    """An open ingest of one namespace: what the stream needs of it."""

    def status(self) -> Status:
        """Offset and times as they stand now."""

    def digest(self) -> Digest:
        """The digest of the bytes stored so far."""

    def append(self, data: bytes) -> None:
        """Store `data` behind what is there."""

    def truncate(self) -> None:
        """Forget all bytes."""

    def give_up_if_recorded(self, expected: str) -> bool:
        """True, and the ingest is removed, when the namespace has the blob `expected` already."""

    def commit(self, total: int, expected: str, labels: Mapping[str, str]) -> Digest:
        """Make it a blob; raises AlreadyExists, FailedPrecondition, InvalidArgument."""

    def close(self) -> None:
        """Let go of the ref; the ingest stays. Closing twice is fine."""


Open = Callable[[str, int, str], Ingest]
"""Opens the ingest of a ref, with the announced total and the expected digest."""


class WriteStream:
    """The state of one stream. Blocking: feed it from a thread; `close` may come from another."""

    def __init__(self, opener: Open) -> None:
        """Begin a stream that opens its ingest with `opener`."""
        self._open = opener
        self._lock = threading.Lock()
        self._closed = False
        self._ingest: Ingest | None = None
        self._total = 0
        self._expected = ""
        self.last: Answer | None = None
        self.committed = False

    def receive(self, request: Request) -> Answer:
        """Do what a message says and answer it; an error closes the ingest, and ends the stream."""
        with self._lock:
            if self._closed:
                raise Cancelled("the write stream has ended")
            try:
                self.last = self._handle(self._ingest or self._opened(request), request)
            except BaseException:
                self._close()
                raise
            return self.last

    def close(self) -> None:
        """End the stream, once a message that is being handled is done; the ref is free then."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._closed = True
        if self._ingest is not None:
            self._ingest.close()

    def _opened(self, request: Request) -> Ingest:
        if not request.ref:
            raise InvalidArgument("the first message of a write must carry a ref")
        self._ingest = self._open(request.ref, request.total, request.expected)
        return self._ingest

    def _handle(self, ingest: Ingest, request: Request) -> Answer:
        self._remember(ingest, request)
        answer = replace(self.last or Answer(), action=request.action, offset=ingest.status().offset)
        if request.action == Action.STAT:
            return self._stat(ingest, answer)
        if request.action in (Action.WRITE, Action.COMMIT):
            return self._write(ingest, request, answer)
        return answer

    def _remember(self, ingest: Ingest, request: Request) -> None:
        if request.expected:
            self._expected = request.expected
            if ingest.give_up_if_recorded(request.expected):
                raise AlreadyExists(f"blob with expected digest {request.expected}")
        if request.total > 0:
            self._total = request.total

    def _stat(self, ingest: Ingest, answer: Answer) -> Answer:
        status = ingest.status()
        return replace(
            answer,
            started_at=status.started_at,
            updated_at=status.updated_at,
            total=self._total,
            digest=ingest.digest(),
        )

    def _write(self, ingest: Ingest, request: Request, answer: Answer) -> Answer:
        self._seek(ingest, request.offset)
        if request.data:
            ingest.append(request.data)
        offset = ingest.status().offset
        if request.action != Action.COMMIT:
            return replace(answer, offset=offset, digest=ingest.digest())
        digest = ingest.commit(self._total, self._expected, request.labels)
        self.committed = True
        return replace(answer, offset=offset, digest=digest)

    def _seek(self, ingest: Ingest, offset: int) -> None:
        """Offset 0 starts over, even without data; another one must be where the ingest stands."""
        current = ingest.status().offset
        if offset == 0 and current > 0:
            ingest.truncate()
        elif offset != 0 and offset != current:
            raise OutOfRange(f"write at offset {offset}: it must go on at the current offset {current}")
