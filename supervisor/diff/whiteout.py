"""Names by which a layer says that something is gone (OCI image spec, layer.md, "Whiteouts"). Pure."""

from __future__ import annotations

from supervisor.errors import SupervisorError

PREFIX = b".wh."
OPAQUE = b".wh..wh..opq"

OVERLAY_OPAQUE_XATTR = "trusted.overlay.opaque"
USER_OVERLAY_PREFIX = "user.overlay."
OVERLAY_XATTR_PREFIXES = ("trusted.overlay.", USER_OVERLAY_PREFIX)


def is_opaque(base: bytes) -> bool:
    """Whether the entry hides everything that lower layers have in its directory."""
    return base == OPAQUE


def hidden(base: bytes) -> bytes:
    """The name that a whiteout hides.

    Raises SupervisorError for one that would hide the directory itself, or the one above.
    """
    name = base.removeprefix(PREFIX)
    if name in (b"", b".", b".."):
        raise SupervisorError(f"{base.decode('ascii')!r} is not the name of a whiteout: it hides no file")
    return name
