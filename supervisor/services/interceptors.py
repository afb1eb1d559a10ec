"""The one place where errors become gRPC statuses, and where what went wrong is logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, NoReturn
from typing import Any as Anything
from urllib.parse import quote

import grpc
import grpc.aio

from supervisor.errors import SupervisorError, Unimplemented
from supervisor.services.context import Context
from supervisor.ttrpc import status

log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 6000
"""What a status's text takes at most: it travels as a header, and gRPC gives up on a call whose headers
exceed 8 KiB; the client would see another code. What a request names can be as large as a message."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}

if TYPE_CHECKING:  # generic in the stubs only
    Handler = grpc.RpcMethodHandler[Anything, Anything]
    Interceptor = grpc.aio.ServerInterceptor[Anything, Anything]
else:
    Interceptor = grpc.aio.ServerInterceptor


class Errors(Interceptor):
    """Wraps every method: what it raises ends the call with the matching code and text."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's handler, wrapped; None stays None, which gRPC answers as UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        if not handler:
            return handler
        return _wrapped(handler, handler_call_details.method)


def _wrapped(handler: Handler, method: str) -> Handler:
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(
            _answering(handler.unary_unary, method), handler.request_deserializer, handler.response_serializer
        )
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(
            _answering(handler.stream_unary, method),
            handler.request_deserializer,
            handler.response_serializer,
        )
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(
            _streaming(handler.unary_stream, method),
            handler.request_deserializer,
            handler.response_serializer,
        )
    return grpc.stream_stream_rpc_method_handler(
        _streaming(handler.stream_stream, method), handler.request_deserializer, handler.response_serializer
    )


def _answering(call: Anything, method: str) -> Anything:
    async def answer(request: Anything, context: Context) -> Anything:
        try:
            return await call(request, context)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise
        except Exception as error:
            await _end(error, context, method)

    return answer


def _streaming(call: Anything, method: str) -> Anything:
    async def stream(request: Anything, context: Context) -> AsyncIterator[Anything]:
        try:
            async for message in call(request, context):
                yield message
        except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            await _end(error, context, method)

    return stream


async def _end(error: Exception, context: Context, method: str) -> NoReturn:
    """End the call; only errors that nobody raised on purpose are logged with their origin."""
    if isinstance(error, NotImplementedError):  # what a generated servicer raises for a method not written
        error = Unimplemented(f"{method} is not offered by this version")
    if not isinstance(error, SupervisorError):
        log.error("%s failed unexpectedly", method, exc_info=error)
    code, text = status.from_error(error)
    await context.abort(_CODES[code], _bounded(text))
    raise AssertionError("abort returned")


def _bounded(text: str) -> str:
    """The text with its middle left out if it is too long: its end has the class of the error.

    What names of files have that is no UTF-8 is written in escapes.
    """
    text = text.encode(errors="backslashreplace").decode()
    kept, half = text, MAX_HEADER_BYTES // 2
    while len(kept) > MAX_HEADER_BYTES or len(quote(kept)) > MAX_HEADER_BYTES:
        kept = f"{text[:half]} ... {text[-half:]}"
        half -= half // 4
    return kept
