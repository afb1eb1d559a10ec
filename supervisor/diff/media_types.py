"""What a layer's media type says about its bytes (containerd: core/images/mediatypes.go, core/diff)."""

from __future__ import annotations

from supervisor.diff.compression import Compression
from supervisor.errors import SupervisorError, Unimplemented
from supervisor.oci.image import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD

APPLIED = OCI_LAYER

_OCI = frozenset((OCI_LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar"))
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
_DOCKER = frozenset(
    (
        _DOCKER_LAYER,
        _DOCKER_LAYER + ".gzip",
        _DOCKER_LAYER + ".zstd",
        _DOCKER_FOREIGN,
        _DOCKER_FOREIGN + ".gzip",
    )
)
_COMPRESSED = frozenset(("gzip", "zstd"))


def may_be_compressed(media_type: str) -> bool:
    """Whether a layer of this type is decompressed by its magic bytes; if not it is a tar as it stands.

    Raises SupervisorError for a type that is no layer, or one that needs a stream processor.
    """
    base, *suffixes = media_type.split("+")
    if base not in _OCI | _DOCKER or "encrypted" in suffixes:
        raise SupervisorError(
            f"no processor for media-type {media_type[:200]!r}: layers are OCI or Docker tars,"
            " and what stream processors accept"
        )
    if base in _DOCKER:
        return not suffixes
    # The Go code sorts the suffixes and looks at the last one; clients never write more than one.
    return bool(suffixes) and max(suffixes) in _COMPRESSED


_MADE = {
    OCI_LAYER: Compression.NONE,
    OCI_LAYER_GZIP: Compression.GZIP,
    OCI_LAYER_ZSTD: Compression.ZSTD,
}


def made(media_type: str) -> tuple[str, Compression]:
    """The type of layer to make when asked for `media_type`, gzip when for none, and how it is compressed.

    Raises Unimplemented for a type that is only read.
    """
    chosen = media_type or OCI_LAYER_GZIP
    if chosen not in _MADE:
        raise Unimplemented(
            f"unsupported diff media type {chosen[:200]!r}; layers made are {', '.join(_MADE)}"
        )
    return chosen, _MADE[chosen]
