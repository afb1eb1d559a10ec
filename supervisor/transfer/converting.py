"""Images with the same files whose layers are compressed in another way (containerd: core/images/converter).

A layer keeps its diff ID, so the configuration stays as it is, and what is unpacked of one is unpacked of
the other. Everything else that documents say is kept.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from supervisor.diff import bounded
from supervisor.diff.compression import Compression, compress
from supervisor.diff.limits import of_layer
from supervisor.diff.media_types import may_be_compressed
from supervisor.diff.stream import Counted
from supervisor.errors import AlreadyExists, InvalidArgument, NotFound
from supervisor.model import digest as digests
from supervisor.model.descriptor import Descriptor
from supervisor.model.image import Image
from supervisor.oci import image as documents
from supervisor.oci.image import Index, Manifest
from supervisor.transfer import walking
from supervisor.transfer.stores import Scope
from supervisor.transfer.unpacking import UNCOMPRESSED_LABEL
from supervisor.transfer.walking import Wanted

_TYPES = {
    Compression.NONE: documents.OCI_LAYER,
    Compression.GZIP: documents.OCI_LAYER_GZIP,
    Compression.ZSTD: documents.OCI_LAYER_ZSTD,
}
_OCI_TYPES = {
    documents.DOCKER_INDEX: documents.OCI_INDEX,
    documents.DOCKER_MANIFEST: documents.OCI_MANIFEST,
    documents.DOCKER_CONFIG: documents.OCI_CONFIG,
}


@dataclass(slots=True)
class Conversion:
    """One conversion; what it has made once is not made again. Docker's documents become OCI's."""

    scope: Scope
    compression: Compression
    wanted: Wanted
    made: dict[str, Descriptor] = field(default_factory=dict)

    def convert(self, name: str, new_name: str) -> Image:
        """Convert the image `name` and call the result `new_name`.

        Raises NotFound for an image or a part of it that is not here, InvalidArgument for a new name that
        is none, SupervisorError for layers that cannot be read.
        """
        if not new_name:
            raise InvalidArgument(f"convert {name}: say what to call the image that is made")
        image = self.scope.image(name)
        target = self._document(image.target, depth=0)
        return self.scope.name(Image(new_name, target, dict(image.labels)))

    def _document(self, target: Descriptor, *, depth: int) -> Descriptor:
        walking.check_depth(depth, target)
        data = self.scope.document(target)
        parsed = documents.parse(data, target.media_type)
        if isinstance(parsed, Index):
            changed: dict[str, Descriptor] = {
                entry.descriptor.digest: self._document(entry.descriptor, depth=depth + 1)
                for entry in self.wanted.of(parsed)
            }
            return self._rewritten(target, data, "manifests", parsed, changed)
        if parsed.config.media_type not in documents.CONFIG_TYPES:
            return target  # something else than an image, like an attestation
        layers: dict[str, Descriptor] = {layer.digest: self._layer(layer) for layer in parsed.layers}
        return self._rewritten(target, data, "layers", parsed, layers)

    def _rewritten(
        self,
        target: Descriptor,
        data: bytes,
        key: str,
        parsed: Index | Manifest,
        changed: Mapping[str, Descriptor],
    ) -> Descriptor:
        """The document with the parts of `key` that changed; those of an index that were not wanted go."""
        document = json.loads(data)
        document[key] = [
            _described(part, changed[part["digest"]])
            for part in document.get(key) or ()
            if part["digest"] in changed
        ]
        document["mediaType"] = _OCI_TYPES.get(target.media_type, target.media_type)
        if isinstance(parsed, Manifest):
            config = document["config"]
            config["mediaType"] = _OCI_TYPES.get(config["mediaType"], config["mediaType"])
        made = json.dumps(document, separators=(",", ":")).encode()
        media_type = document["mediaType"]
        new = Descriptor(media_type, digests.of_bytes(made), len(made), target.annotations)
        kept = documents.parse(made, media_type)
        self.scope.write(new, made, walking.reference_labels(kept))
        return new

    def _layer(self, layer: Descriptor) -> Descriptor:
        """The layer compressed as wanted; one that is so already, and says so, stays as it is."""
        if layer.digest in self.made:
            return self.made[layer.digest]
        if layer.media_type == _TYPES[self.compression]:
            if not self.scope.has(layer.digest):
                raise NotFound(f"layer {layer.digest} is not here; pull the image again, with all of it")
            return layer
        made = self._compressed(layer)
        self.made[layer.digest] = made
        return made

    def _compressed(self, layer: Descriptor) -> Descriptor:
        content, scope = self.scope.stores.content, self.scope
        by_magic = may_be_compressed(layer.media_type)
        ref = f"convert-{layer.digest}-{secrets.token_hex(4)}"
        with scope.open(layer.digest) as blob, of_layer(layer.digest):
            plain = Counted(bounded.plain(blob, scope.stores.limits, by_magic=by_magic))
            ingest = content.open_ingest(scope.namespace, ref, scope.lease)
            try:
                for piece in compress(plain, self.compression):
                    ingest.append(piece)
                size, digest = ingest.status().offset, ingest.digest()
                labels = {UNCOMPRESSED_LABEL: str(plain.digest())}
                with suppress(AlreadyExists):
                    ingest.commit(size, digest, labels)
            except BaseException:
                ingest.close()
                with suppress(NotFound):
                    content.abort(scope.namespace, ref, scope.lease)
                raise
        return replace(layer, media_type=_TYPES[self.compression], digest=digest, size=size)


def _described(part: dict[str, object], new: Descriptor) -> dict[str, object]:
    """What a document says of a part, with what is new of it."""
    return {**part, "mediaType": new.media_type, "digest": new.digest, "size": new.size}
