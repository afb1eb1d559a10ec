"""containerd.services.content.v1.Content (containerd: plugins/services/content/contentserver)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.content.v1 import content_pb2 as pb
from supervisor.blocking import in_thread
from supervisor.content.store import Info, Status
from supervisor.content.write import Answer, Ingest, Request, WriteStream
from supervisor.errors import OutOfRange
from supervisor.metadata.content_store import ContentStore
from supervisor.model.digest import digest
from supervisor.model.filters import parse_all
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import Nanoseconds
from supervisor.services import convert
from supervisor.services.context import Context, lease_of, namespace_of

LIST_CHUNK = 100
"""Entries in one message of List (contract 1.7)."""

SMALL = 64 << 10
"""Bytes that are read at once, between other calls."""

READ_CHUNK = 1 << 20
"""Bytes in one message of Read at most (contract 6.2)."""


class Content:
    """Serves blobs and ingests. Whatever touches disk runs in a thread, one message at a time."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Content"]

    def __init__(self, store: ContentStore) -> None:
        self._store = store

    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:
        """What the namespace knows of a blob."""
        wanted = digest(request.digest)
        info = self._store.info(namespace_of(context), wanted)
        return pb.InfoResponse(info=_info(info))

    async def Update(self, request: pb.UpdateRequest, context: Context) -> pb.UpdateResponse:
        """Change labels."""
        convert.require(request, "info")
        given = Info(
            digest(request.info.digest), 0, Nanoseconds(0), Nanoseconds(0), dict(request.info.labels)
        )
        namespace = namespace_of(context)
        changed = await in_thread(self._store.update, namespace, given, list(request.update_mask.paths))
        return pb.UpdateResponse(info=_info(changed))

    async def List(
        self, request: pb.ListContentRequest, context: Context
    ) -> AsyncIterator[pb.ListContentResponse]:
        """The blobs that pass the filters, a hundred a message; no message when there are none."""
        namespace = namespace_of(context)
        found = await in_thread(self._store.infos, namespace, parse_all(request.filters))
        for start in range(0, len(found), LIST_CHUNK):
            yield pb.ListContentResponse(info=map(_info, found[start : start + LIST_CHUNK]))

    async def Delete(self, request: pb.DeleteContentRequest, context: Context) -> Empty:
        """Drop the namespace's record of a blob."""
        wanted = digest(request.digest)
        await in_thread(self._store.delete, namespace_of(context), wanted, lease_of(context))
        return Empty()

    async def Read(
        self, request: pb.ReadContentRequest, context: Context
    ) -> AsyncIterator[pb.ReadContentResponse]:
        """The bytes of a blob, from `offset` on; offsets in the answer count from the first byte sent."""
        digest(request.digest)
        wanted = (self._store, namespace_of(context), request)
        # A document is read sooner than a thread is told to.
        blob = _Reading(*wanted) if 0 < request.size <= SMALL else await in_thread(_Reading, *wanted)
        with blob.source:
            while blob.next.data:
                yield blob.next
                if not blob.left:
                    break
                await in_thread(blob.advance)

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:
        """How far an ingest is."""
        status = await in_thread(self._store.status, namespace_of(context), request.ref)
        return pb.StatusResponse(status=_status(status))

    async def ListStatuses(
        self, request: pb.ListStatusesRequest, context: Context
    ) -> pb.ListStatusesResponse:
        """The ingests that pass the filters."""
        namespace = namespace_of(context)
        found = await in_thread(self._store.statuses, namespace, parse_all(request.filters))
        return pb.ListStatusesResponse(statuses=map(_status, found))

    async def Abort(self, request: pb.AbortRequest, context: Context) -> Empty:
        """Remove an ingest."""
        await in_thread(self._store.abort, namespace_of(context), request.ref, lease_of(context))
        return Empty()

    async def Write(
        self, requests: AsyncIterator[pb.WriteContentRequest], context: Context
    ) -> AsyncIterator[pb.WriteContentResponse]:
        """Write a blob, message by message; however the stream ends, the ref is free afterwards.

        The last answer is sent once more at the end, as containerd does.
        """
        stream = WriteStream(partial(self._open, context))
        try:
            async for request in requests:
                yield _answer(await in_thread(stream.receive, _request(request)))
                if stream.committed:
                    break
        finally:
            await in_thread(stream.close)
        if stream.last is not None:
            yield _answer(stream.last)

    def _open(self, context: Context, ref: str, total: int, expected: str) -> Ingest:
        namespace = namespace_of(context)
        return self._store.open_ingest(namespace, ref, lease_of(context), total=total, expected=expected)


class _Reading:
    """A blob being read: open, with the next message at hand, so that a small read is one turn."""

    def __init__(self, store: ContentStore, namespace: Namespace, request: pb.ReadContentRequest) -> None:
        self.source, size = store.open_blob(namespace, digest(request.digest))
        try:
            start, self.left = _span(request, size)
            self.source.seek(start)
            self.next = pb.ReadContentResponse()
            self.advance()
        except BaseException:
            self.source.close()
            raise

    def advance(self) -> None:
        """Read the next message; one without data is the end."""
        sent = self.next.offset + len(self.next.data)
        data = self.source.read(min(READ_CHUNK, self.left))
        self.left -= len(data)
        self.next = pb.ReadContentResponse(offset=sent, data=data)


def _span(request: pb.ReadContentRequest, size: int) -> tuple[int, int]:
    """First byte and number of bytes that a request asks for; raises OutOfRange."""
    start = max(request.offset, 0)
    if start > size:
        raise OutOfRange(f"read of {request.digest} at offset {start}: it has {size} bytes")
    return start, min(request.size, size - start) if request.size > 0 else size - start


def _request(message: pb.WriteContentRequest) -> Request:
    return Request(
        action=message.action,
        ref=message.ref,
        total=message.total,
        expected=message.expected,
        offset=message.offset,
        data=message.data,
        labels=dict(message.labels),
    )


def _answer(answer: Answer) -> pb.WriteContentResponse:
    message = pb.WriteContentResponse(
        action=answer.action,  # type: ignore[arg-type]  # an open enum: unknown numbers are echoed
        offset=answer.offset,
        total=answer.total,
        digest=answer.digest,
    )
    if answer.started_at is not None and answer.updated_at is not None:
        message.started_at.CopyFrom(convert.from_instant(answer.started_at))
        message.updated_at.CopyFrom(convert.from_instant(answer.updated_at))
    return message


def _info(info: Info) -> pb.Info:
    return pb.Info(
        digest=info.digest,
        size=info.size,
        created_at=convert.from_instant(info.created_at),
        updated_at=convert.from_instant(info.updated_at),
        labels=info.labels,
    )


def _status(status: Status) -> pb.Status:
    return pb.Status(
        ref=status.ref,
        offset=status.offset,
        total=status.total,
        started_at=convert.from_instant(status.started_at),
        updated_at=convert.from_instant(status.updated_at),
    )
