"""containerd.services.images.v1.Images (containerd: plugins/services/images)."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.images.v1 import images_pb2 as pb
from supervisor.metadata import images
from supervisor.metadata.store import Store
from supervisor.model.fieldmask import parse_mask
from supervisor.model.filters import parse_all
from supervisor.model.image import MASK_FIELDS, MASK_MAPS, Image, check_name
from supervisor.model.instant import Nanoseconds
from supervisor.services import convert
from supervisor.services.context import Context, lease_of, namespace_of
from supervisor.services.scheduler import Scheduler


class Images:
    """Serves the images of the store."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Images"]

    def __init__(self, store: Store, scheduler: Scheduler | None = None) -> None:
        """Without a scheduler nothing is collected, so `sync` has nothing to wait for."""
        self._store = store
        self._scheduler = scheduler

    async def Get(self, request: pb.GetImageRequest, context: Context) -> pb.GetImageResponse:
        """One image."""
        found = self._store.look_up(images.get, namespace_of(context), request.name)
        return pb.GetImageResponse(image=_message(found))

    async def List(self, request: pb.ListImagesRequest, context: Context) -> pb.ListImagesResponse:
        """All images that pass the filters."""
        namespace = namespace_of(context)
        found = await self._store.read(images.find, namespace, parse_all(request.filters))
        return pb.ListImagesResponse(images=map(_message, found))

    async def Create(self, request: pb.CreateImageRequest, context: Context) -> pb.CreateImageResponse:
        """Store a new image; the content need not be there."""
        convert.require(request, "image")
        check_name(request.image.name)
        stored = await self._store.write(
            images.create, namespace_of(context), _value(request.image), lease_of(context), _date(request)
        )
        return pb.CreateImageResponse(image=_message(stored))

    async def Update(self, request: pb.UpdateImageRequest, context: Context) -> pb.UpdateImageResponse:
        """Change an image, or the fields of it that the mask names."""
        convert.require(request, "image")
        check_name(request.image.name)
        namespace = namespace_of(context)
        mask = parse_mask(request.update_mask.paths, "image", fields=MASK_FIELDS, maps=MASK_MAPS)
        stored = await self._store.write(
            images.change, namespace, _value(request.image), mask, lease_of(context), _date(request)
        )
        return pb.UpdateImageResponse(image=_message(stored))

    async def Delete(self, request: pb.DeleteImageRequest, context: Context) -> Empty:
        """Delete the name; what it alone kept is collected soon, with `sync` before the answer."""
        await self._store.write(
            images.remove, namespace_of(context), request.name, request.target.digest, lease_of(context)
        )
        if request.sync and self._scheduler is not None:
            await self._scheduler.collect()
        return Empty()


def _date(request: pb.CreateImageRequest | pb.UpdateImageRequest) -> Nanoseconds | None:
    if not request.HasField("source_date_epoch"):
        return None
    return convert.to_instant(request.source_date_epoch)


def _value(message: pb.Image) -> Image:
    return Image(message.name, convert.to_descriptor(message.target), dict(message.labels))


def _message(image: Image) -> pb.Image:
    return pb.Image(
        name=image.name,
        labels=image.labels,
        target=convert.from_descriptor(image.target),
        created_at=convert.from_instant(image.created_at),
        updated_at=convert.from_instant(image.updated_at),
    )
