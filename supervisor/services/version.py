"""containerd.services.version.v1.Version (containerd: plugins/services/version)."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.version.v1 import version_pb2 as pb
from supervisor.services.context import Context


class Version:
    """Says which version serves."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Version"]

    def __init__(self, version: str, revision: str = "") -> None:
        self._answer = pb.VersionResponse(version=version, revision=revision)

    async def Version(self, request: Empty, context: Context) -> pb.VersionResponse:
        """Version and revision of this daemon; needs no namespace."""
        return self._answer
