"""Where the content store and the differ meet: a layer that is made becomes a blob (contract 9.2)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from supervisor.diff.compare import Comparison, Packed, compare
from supervisor.errors import AlreadyExists, NotFound
from supervisor.metadata.content_ingest import Ingest
from supervisor.metadata.content_store import ContentStore
from supervisor.model.descriptor import Descriptor
from supervisor.model.identifiers import Namespace

UNCOMPRESSED_LABEL = "containerd.io/uncompressed"


@dataclass(frozen=True, slots=True)
class Made:
    """The blob to be: whose, by which write, held by which lease, with which labels if it is new."""

    namespace: Namespace
    ref: str
    lease_id: str | None
    labels: Mapping[str, str]


def pack(content: ContentStore, made: Made, asked: Comparison, tmp_root: Path) -> Descriptor:
    """Compare, and store the layer; blocking. A write whose name nobody knows is not left behind."""
    ref = made.ref or f"diff-{uuid.uuid4()}"
    ingest = content.open_ingest(made.namespace, ref, made.lease_id)
    try:
        ingest.truncate()
        return _commit(content, ingest, made, compare(asked, ingest.append, tmp_root=tmp_root))
    except BaseException:
        ingest.close()
        if not made.ref:
            with suppress(NotFound):
                content.abort(made.namespace, ref, made.lease_id)
        raise
    finally:
        ingest.close()


def _commit(content: ContentStore, ingest: Ingest, made: Made, packed: Packed) -> Descriptor:
    """A blob that is there already is as good; it only learns the digest of its tar."""
    digest = ingest.digest()
    added = {UNCOMPRESSED_LABEL: str(packed.uncompressed)} if packed.uncompressed else {}
    try:
        digest = ingest.commit(packed.size, digest, {**made.labels, **added}, media_type=packed.media_type)
    except AlreadyExists:
        known = content.info(made.namespace, digest)
        if not added.keys() <= known.labels.keys():
            content.update(made.namespace, replace(known, labels={**known.labels, **added}))
    return Descriptor(packed.media_type, digest, packed.size)
