"""Content: blobs by digest, and ingests that can be resumed (containerd: core/content)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from supervisor.api.services.content.v1 import content_pb2 as pb
from supervisor.client import convert
from supervisor.client.channel import Channel, Duplex
from supervisor.errors import Aborted, AlreadyExists, NotFound, ResourceExhausted, Unavailable
from supervisor.model.digest import Digest
from supervisor.model.instant import Nanoseconds

_SERVICE = "containerd.services.content.v1.Content"

# Manifests and configurations; the largest that registries accept is 4 MiB.
MAX_DOCUMENT_BYTES = 8 << 20
PIECE_BYTES = 1 << 20
# A ref that somebody else is writing: they may finish or go away at any time.
_RETRY_SECONDS = (0.05, 2.0)

WriteDuplex = Duplex[pb.WriteContentRequest, pb.WriteContentResponse]


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob's record in a namespace."""

    digest: Digest
    size: int
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: Nanoseconds | None = None
    updated_at: Nanoseconds | None = None


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """How far an unfinished ingest has come; `total` is 0 when nobody said."""

    ref: str
    offset: int
    total: int
    started_at: Nanoseconds | None = None
    updated_at: Nanoseconds | None = None


class Writer:
    """An open ingest. Closing without commit keeps what was written, to be resumed under the same ref."""

    def __init__(self, duplex: WriteDuplex, ref: str, total: int, expected: str) -> None:
        self._duplex = duplex
        self._ref = ref
        self._total = total
        self._expected = expected
        self.offset = 0
        self.digest = Digest("")

    async def open(self) -> None:
        """Lock the ref and learn how much is there; raises AlreadyExists, and Unavailable while locked."""
        await self._send(pb.STAT)

    async def write(self, data: bytes) -> None:
        """Append `data`."""
        for start in range(0, len(data), PIECE_BYTES):
            await self._send(pb.WRITE, data[start : start + PIECE_BYTES])

    async def commit(self, labels: Mapping[str, str] | None = None) -> Digest:
        """Make the blob visible; raises FailedPrecondition when size or digest are not as expected."""
        await self._send(pb.COMMIT, labels=labels)
        return self.digest

    def close(self) -> None:
        """Give up the lock."""
        self._duplex.cancel()

    async def _send(
        self, action: pb.WriteAction, data: bytes = b"", labels: Mapping[str, str] | None = None
    ) -> None:
        request = pb.WriteContentRequest(
            action=action,
            ref=self._ref,
            total=self._total,
            expected=self._expected,
            offset=self.offset,
            data=data,
            labels=labels or {},
        )
        answer = await self._duplex.exchange(request)
        if answer is None:
            raise Aborted(f"write content {self._ref!r}: the daemon ended the stream; open it again to go on")
        self.offset, self.digest = answer.offset, Digest(answer.digest)


class Content:
    """The blobs of a namespace."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def info(self, digest: str) -> BlobInfo:
        """The record of a blob; raises NotFound."""
        answer = await self._channel.call(f"{_SERVICE}/Info", pb.InfoRequest(digest=digest), pb.InfoResponse)
        return _info(answer.info)

    async def label(self, digest: str, labels: Mapping[str, str]) -> BlobInfo:
        """Set labels of a blob; an empty value removes one."""
        request = pb.UpdateRequest(
            info=pb.Info(digest=digest, labels=labels),
            update_mask=FieldMask(paths=[f"labels.{key}" for key in labels]),
        )
        return _info((await self._channel.call(f"{_SERVICE}/Update", request, pb.UpdateResponse)).info)

    async def delete(self, digest: str) -> None:
        """Delete the record of a blob; raises NotFound."""
        await self._channel.call(f"{_SERVICE}/Delete", pb.DeleteContentRequest(digest=digest), Empty)

    async def read(self, digest: str, *, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Pieces of a blob, from `offset`, `size` bytes or to the end when 0; raises NotFound."""
        request = pb.ReadContentRequest(digest=digest, offset=offset, size=size)
        async for answer in self._channel.stream(f"{_SERVICE}/Read", request, pb.ReadContentResponse):
            yield answer.data

    async def document(self, digest: str) -> bytes:
        """A whole small blob, such as a manifest; raises ResourceExhausted above 8 MiB."""
        data = bytearray()
        async with aclosing(self.read(digest)) as pieces:
            async for piece in pieces:
                data += piece
                if len(data) > MAX_DOCUMENT_BYTES:
                    raise ResourceExhausted(
                        f"read {digest}: more than {MAX_DOCUMENT_BYTES} bytes is no document"
                    )
        return bytes(data)

    @asynccontextmanager
    async def writer(self, ref: str, *, total: int = 0, expected: str = "") -> AsyncIterator[Writer]:
        """Open an ingest for `ref`, where it was left; waits while somebody else writes it.

        Raises AlreadyExists when the blob `expected` is there already.
        """
        writer = await self._open(ref, total, expected)
        try:
            yield writer
        finally:
            writer.close()

    async def put(
        self,
        ref: str,
        source: BinaryIO,
        *,
        size: int,
        digest: str,
        labels: Mapping[str, str] | None = None,
    ) -> bool:
        """Store a blob from a seekable file, going on where an earlier attempt ended.

        Returns False when it was there already, and then adds `labels` to those it has.
        """
        try:
            async with self.writer(ref, total=size, expected=digest) as writer:
                await _fill(writer, source, size)
                await writer.commit(labels)
        except AlreadyExists:
            if labels:
                await self.label(digest, labels)
            return False
        return True

    async def ingests(self, filters: Sequence[str] = ()) -> list[IngestStatus]:
        """Unfinished ingests."""
        request = pb.ListStatusesRequest(filters=filters)
        answer = await self._channel.call(f"{_SERVICE}/ListStatuses", request, pb.ListStatusesResponse)
        return [_status(message) for message in answer.statuses]

    async def abort(self, ref: str) -> None:
        """Drop an unfinished ingest; raises NotFound."""
        await self._channel.call(f"{_SERVICE}/Abort", pb.AbortRequest(ref=ref), Empty)

    async def exists(self, digest: str) -> bool:
        """Whether the namespace has the blob."""
        try:
            await self.info(digest)
        except NotFound:
            return False
        return True

    async def _open(self, ref: str, total: int, expected: str) -> Writer:
        pause, longest = _RETRY_SECONDS
        while True:
            duplex = self._channel.duplex(
                f"{_SERVICE}/Write", pb.WriteContentRequest, pb.WriteContentResponse
            )
            writer = Writer(duplex, ref, total, expected)
            try:
                await writer.open()
            except Unavailable as error:
                if "locked" not in str(error):
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, longest)
            else:
                return writer

    async def list(self, filters: Sequence[str] = ()) -> list[BlobInfo]:
        """The blobs that at least one of `filters` selects, by digest; all without filters."""
        request = pb.ListContentRequest(filters=filters)
        answers = await self._channel.collect(f"{_SERVICE}/List", request, pb.ListContentResponse)
        return [_info(message) for answer in answers for message in answer.info]


async def _fill(writer: Writer, source: BinaryIO, size: int) -> None:
    source.seek(writer.offset)
    while writer.offset < size:
        piece = source.read(min(PIECE_BYTES, size - writer.offset))
        if not piece:
            raise Aborted(
                f"the source of {writer.digest or 'the blob'} ended {size - writer.offset} bytes early"
            )
        await writer.write(piece)


def _info(message: pb.Info) -> BlobInfo:
    return BlobInfo(
        digest=Digest(message.digest),
        size=message.size,
        labels=dict(message.labels),
        created_at=convert.instant(message.created_at),
        updated_at=convert.instant(message.updated_at),
    )


def _status(message: pb.Status) -> IngestStatus:
    return IngestStatus(
        ref=message.ref,
        offset=message.offset,
        total=message.total,
        started_at=convert.instant(message.started_at),
        updated_at=convert.instant(message.updated_at),
    )
