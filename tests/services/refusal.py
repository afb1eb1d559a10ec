"""What a refused call said."""

from __future__ import annotations

from collections.abc import Awaitable

import grpc
import grpc.aio
import pytest


async def refusal(call: Awaitable[object]) -> tuple[str, str]:
    """Name of the status and its text; fails when the call is not refused."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code().name, raised.value.details() or ""
