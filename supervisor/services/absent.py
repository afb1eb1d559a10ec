"""The services of containerd's API that this version does not offer, each with a text that says so.

A method answers UNIMPLEMENTED whatever it is sent, which is what containerd's clients expect of a
daemon without the plugin, and fall back on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NoReturn
from typing import Any as Anything

import grpc

from supervisor.errors import Unimplemented
from supervisor.services.context import Context

SERVICES = {
    "containerd.services.sandbox.v1.Controller": "the sandbox controller",
    "containerd.services.streaming.v1.Streaming": "streaming",
    "containerd.services.transfer.v1.Transfer": "the transfer service",
}

if TYPE_CHECKING:  # generic in the stubs only
    Handler = grpc.RpcMethodHandler[Anything, Anything]
    GenericHandler = grpc.GenericRpcHandler[Anything, Anything]
else:
    GenericHandler = grpc.GenericRpcHandler


class Absent(GenericHandler):
    """Handles every method of `SERVICES`; add it with `Server.add_generic_rpc_handlers`."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """A refusing handler for a method of these services, None for any other."""
        method = handler_call_details.method
        what = SERVICES.get(method.strip("/").rpartition("/")[0])
        if what is None:
            return None

        async def refuse(requests: AsyncIterator[bytes], context: Context) -> NoReturn:
            raise Unimplemented(f"{method}: this version does not offer {what}")

        # Nothing is decoded and nothing answered, so one arity serves all four.
        return grpc.stream_unary_rpc_method_handler(refuse)
