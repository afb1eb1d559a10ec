"""Descriptors: a pointer to content (OCI image spec, descriptor.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supervisor.model.digest import Digest


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest and size (bytes) of a blob, with annotations, and other places to have it from."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()
