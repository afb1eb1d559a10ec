"""containerd.services.diff.v1.Diff (containerd: plugins/services/diff, plugins/diff/walking)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from supervisor.api.services.diff.v1 import diff_pb2 as pb
from supervisor.api.types import descriptor_pb2
from supervisor.blocking import in_thread
from supervisor.diff.apply import NO_PROCESSING, Applied, Processing, apply
from supervisor.diff.compare import Comparison
from supervisor.diff.limits import of_layer
from supervisor.errors import InvalidArgument, NotFound
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.mount_manager import MountManager
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest, digest
from supervisor.model.identifiers import Namespace
from supervisor.model.mount import Mount
from supervisor.services import convert
from supervisor.services.context import Context, lease_of, namespace_of
from supervisor.services.diff_content import Made, pack


class Diff:
    """Unpacks layers; mounts that it has to perform are at folders below `tmp_root`."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Diff"]

    def __init__(
        self,
        content: ContentStore,
        tmp_root: Path,
        *,
        mounts: MountManager,
        sync_fs: bool = False,
        processing: Processing = NO_PROCESSING,
    ) -> None:
        """Serve blobs of `content`; `sync_fs` makes every layer durable, whether or not a request asks.

        `processing` says what programs layers go through before they are unpacked, and how large they may
        be. `mounts` prepares those of types that the kernel does not know.
        """
        self._content = content
        self._mounts = mounts
        self._tmp_root = tmp_root
        self._processing = processing
        self._sync_fs = sync_fs
        # A layer keeps a thread, a child process and a good part of two processors busy.
        self._turns = asyncio.Semaphore(max(2, os.cpu_count() or 1))

    async def Apply(self, request: pb.ApplyRequest, context: Context) -> pb.ApplyResponse:
        """Unpack a blob into mounts; answers what its uncompressed tar was."""
        convert.require(request, "diff")
        namespace = namespace_of(context)
        mounts = [convert.to_mount(mount) for mount in request.mounts]
        async with self._turns:
            applied = await in_thread(self._apply, namespace, request, mounts)
        described = descriptor_pb2.Descriptor(
            media_type=applied.media_type, digest=applied.digest, size=applied.size
        )
        return pb.ApplyResponse(applied=described)

    async def Diff(self, request: pb.DiffRequest, context: Context) -> pb.DiffResponse:
        """Make a blob of what makes one tree different from another."""
        namespace = namespace_of(context)
        made = Made(namespace, request.ref, lease_of(context), dict(request.labels))
        async with self._turns:
            blob = await in_thread(self._pack, made, _comparison(request))
        return pb.DiffResponse(diff=convert.from_descriptor(blob))

    def _apply(self, namespace: Namespace, request: pb.ApplyRequest, mounts: Sequence[Mount]) -> Applied:
        payloads = {name: payload.SerializeToString() for name, payload in request.payloads.items()}
        stream, _ = self._content.open_blob(namespace, _digest(request.diff.digest))
        with stream, self._mounts.ready(namespace, mounts) as plain, of_layer(request.diff.digest):
            return apply(
                stream,
                request.diff.media_type,
                plain,
                tmp_root=self._tmp_root,
                sync=request.sync_fs or self._sync_fs,
                processing=replace(self._processing, payloads=payloads),
            )

    def _pack(self, made: Made, asked: Comparison) -> Descriptor:
        with (
            self._mounts.ready(made.namespace, asked.left) as left,
            self._mounts.ready(made.namespace, asked.right) as right,
        ):
            plain = replace(asked, left=left, right=right)
            return pack(self._content, made, plain, self._tmp_root)


def _digest(text: str) -> Digest:
    """A digest; a malformed one is just one that nobody has (contract 9.1)."""
    try:
        return digest(text)
    except InvalidArgument as error:
        raise NotFound(f"blob to apply: {error}") from None


def _comparison(request: pb.DiffRequest) -> Comparison:
    bounded = request.HasField("source_date_epoch")
    return Comparison(
        left=[convert.to_mount(mount) for mount in request.left],
        right=[convert.to_mount(mount) for mount in request.right],
        media_type=request.media_type,
        latest=convert.to_instant(request.source_date_epoch) if bounded else None,
    )
