"""Checkpoints as blobs (containerd: plugins/services/tasks/local.go, `Checkpoint`; contract 4.3).

A dump is a folder of criu's images. It is kept as one tar, with the container's spec beside it. All
functions but `options_of` block.
"""

from __future__ import annotations

import tarfile
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from supervisor.api.types.runc.options.oci_pb2 import CheckpointOptions, Options
from supervisor.diff.apply import Processing, apply
from supervisor.diff.limits import NO_LIMITS
from supervisor.errors import AlreadyExists, InvalidArgument, NotFound, SupervisorError
from supervisor.metadata.content_ingest import Ingest
from supervisor.metadata.content_store import ContentStore
from supervisor.model.any import Any
from supervisor.model.descriptor import Descriptor
from supervisor.model.identifiers import Namespace
from supervisor.model.mount import Mount

CRIU_TAR = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
CONFIG = "application/vnd.containerd.container.checkpoint.config.v1+proto"

FROM_PATH = "RestoreFromPath"
"""Annotation of a descriptor that stands for a folder; containerd 2.4 starts such a task at once."""

_PLAIN_TAR = "application/vnd.oci.image.layer.v1.tar"
_BUFFER = 1 << 20


def options_of(sent: AnyMessage) -> CheckpointOptions:
    """The options in a request; raises SupervisorError for those of another type."""
    if sent.type_url and sent.type_url.rpartition("/")[2] != CheckpointOptions.DESCRIPTOR.full_name:
        raise SupervisorError(f"invalid task checkpoint option for runc: {sent.type_url}")
    try:
        return CheckpointOptions.FromString(sent.value)
    except DecodeError as error:
        raise InvalidArgument(f"the checkpoint options cannot be read: {error}") from error


def make_folder(work: Path) -> Path:
    """A folder for one dump among what its task keeps, so that it goes with the task at the latest."""
    work.mkdir(mode=0o711, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="checkpoint-", dir=work))


def folder_of(checkpoint: Descriptor | None, options: Any | None) -> str:
    """The folder that a client restores from; nothing when it does not, or from a blob."""
    if checkpoint is not None:
        return checkpoint.annotations.get(FROM_PATH, "")
    if options is None or options.type_url.rpartition("/")[2] != Options.DESCRIPTOR.full_name:
        return ""
    with suppress(DecodeError):  # whoever reads the options next says so
        return Options.FromString(options.value).criu_image_path
    return ""


def unpacker(
    content: ContentStore, namespace: Namespace, checkpoint: Descriptor, tmp_root: Path
) -> Callable[[Path], None]:
    """What unpacks a dump into a folder, in the confined worker for layers; raises SupervisorError."""
    if checkpoint.media_type != CRIU_TAR:
        raise SupervisorError(f'unsupported checkpoint type "{checkpoint.media_type}"')

    def unpack(folder: Path) -> None:
        folder.mkdir(mode=0o700)
        tmp_root.mkdir(mode=0o700, parents=True, exist_ok=True)
        blob, _ = content.open_blob(namespace, checkpoint.digest)
        with blob:
            bound = [Mount("bind", str(folder), ("rbind", "rw"))]
            dumped = Processing(limits=NO_LIMITS)  # it is as large as the memory was
            apply(blob, _PLAIN_TAR, bound, tmp_root=tmp_root, sync=False, processing=dumped)

    return unpack


class CheckpointBlobs:
    """Writes the blobs of one checkpoint for a namespace, held by the caller's lease."""

    def __init__(self, content: ContentStore, namespace: Namespace, lease_id: str | None) -> None:
        self._content = content
        self._namespace = namespace
        self._lease_id = lease_id

    def store(self, folder: Path, spec: Any | None) -> list[Descriptor]:
        """Store a dump and the spec that it belongs to; answers both."""
        encoded = AnyMessage(type_url=spec.type_url, value=spec.value) if spec else AnyMessage()
        return [
            self._blob(CRIU_TAR, lambda ingest: _pack(folder, ingest)),
            self._blob(CONFIG, lambda ingest: ingest.append(encoded.SerializeToString())),
        ]

    def _blob(self, media_type: str, write: Callable[[Ingest], None]) -> Descriptor:
        ref = f"checkpoint-{uuid.uuid4()}"
        ingest = self._content.open_ingest(self._namespace, ref, self._lease_id)
        try:
            write(ingest)
            digest, size = ingest.digest(), ingest.status().offset
            with suppress(AlreadyExists):
                ingest.commit(size, digest, {}, media_type)
            return Descriptor(media_type, digest, size)
        except BaseException:
            ingest.close()
            with suppress(NotFound):
                self._content.abort(self._namespace, ref, self._lease_id)
            raise
        finally:
            ingest.close()


class _Sink:
    """What tarfile writes to."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def write(self, data: bytes) -> int:
        self._ingest.append(data)
        return len(data)


def _pack(folder: Path, ingest: Ingest) -> None:
    """The folder's files, in the order of their names, under names relative to it."""
    sink = cast(IO[bytes], _Sink(ingest))
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BUFFER) as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
