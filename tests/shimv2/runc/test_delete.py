"""`delete` answers what protobuf would encode, without loading it (contract: tasks 2.7)."""

from __future__ import annotations

import subprocess
import sys

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from supervisor.api.runtime.task.v2.shim_pb2 import DeleteResponse
from supervisor.shimv2.runc.delete import encode_response


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 253402300799), st.integers(0, 999_999_999)
)
def test_the_answer_is_protobufs(pid: int, status: int, seconds: int, nanos: int) -> None:
    expected = DeleteResponse(pid=pid, exit_status=status, exited_at=Timestamp(seconds=seconds, nanos=nanos))
    assert encode_response(pid, status, seconds, nanos) == expected.SerializeToString()


def test_what_the_actions_load() -> None:
    """The server loads no asyncio, grpc or SQLAlchemy; `delete` not even protobuf."""
    for module, barred in (
        ("delete", ("google.protobuf", "subprocess", "ctypes")),
        ("server", ("asyncio", "grpc", "sqlalchemy", "requests", "zstandard", "subprocess")),
    ):
        script = f"import sys, supervisor.shimv2.runc.{module}; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert not set(loaded.stdout.split()) & set(barred)
