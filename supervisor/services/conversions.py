"""supervisor.services.conversions.v1.Conversions: images with layers that are compressed in another way."""

from __future__ import annotations

import asyncio

from supervisor.api.services.supervisor import conversions_pb2 as pb
from supervisor.blocking import in_thread
from supervisor.diff.compression import Compression
from supervisor.errors import InvalidArgument
from supervisor.model.identifiers import Namespace
from supervisor.model.image import Image
from supervisor.model.platform import Platform
from supervisor.services.context import Context, lease_of, namespace_of
from supervisor.services.convert import from_descriptor
from supervisor.transfer.converting import Conversion
from supervisor.transfer.stores import Stores, leased
from supervisor.transfer.walking import Wanted

_COMPRESSIONS = {
    pb.NONE: Compression.NONE,
    pb.GZIP: Compression.GZIP,
    pb.ZSTD: Compression.ZSTD,
}


class Conversions:
    """Converts images, one at a time: each keeps a processor busy."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Conversions"]

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._turn = asyncio.Semaphore(1)

    async def Convert(self, request: pb.ConvertRequest, context: Context) -> pb.ConvertResponse:
        """Answers when the image that is made has its name."""
        namespace, lease = namespace_of(context), lease_of(context)
        if request.compression not in _COMPRESSIONS:
            raise InvalidArgument(f"compression {request.compression} is not known")
        async with self._turn:
            made = await in_thread(self._convert, namespace, lease, request)
        return pb.ConvertResponse(target=from_descriptor(made.target))

    def _convert(self, namespace: Namespace, lease: str | None, request: pb.ConvertRequest) -> Image:
        wanted = Wanted(tuple(Platform(p.os, p.architecture, p.variant) for p in request.platforms))
        with leased(self._stores, namespace, lease) as scope:
            conversion = Conversion(scope, _COMPRESSIONS[request.compression], wanted)
            return conversion.convert(request.name, request.new_name)
