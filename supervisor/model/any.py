"""An opaque payload with the name of its type (containerd: typeurl; protobuf: google.protobuf.Any).

Kept byte for byte. `type_url` of a protobuf message is its bare full name, without a prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

SPEC_TYPE_URL = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS_TYPE_URL = "types.containerd.io/opencontainers/runtime-spec/1/Process"


@dataclass(frozen=True, slots=True)
class Any:
    """A typed payload that this daemon stores and hands on without looking inside."""

    type_url: str
    value: bytes
