"""Version over gRPC: contract section 13."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.version.v1 import version_pb2_grpc as rpc
from supervisor.services.version import Version
from tests.services.conftest import Serve


async def test_version(serve: Serve) -> None:
    service = Version("1.2.3", "abc")
    channel = await serve(lambda server: server.add(service))
    answer = await rpc.VersionStub(channel).Version(Empty(), metadata=(("containerd-namespace", "-bad-"),))
    assert (answer.version, answer.revision) == ("1.2.3", "abc")
