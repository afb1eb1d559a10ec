"""Images: names that point at content (containerd: core/images)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from supervisor.api.services.images.v1 import images_pb2 as pb
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.errors import AlreadyExists
from supervisor.model.descriptor import Descriptor
from supervisor.model.instant import Nanoseconds

_SERVICE = "containerd.services.images.v1.Images"


@dataclass(frozen=True, slots=True)
class Image:
    """A name, and the manifest or index that it stands for."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: Nanoseconds | None = None
    updated_at: Nanoseconds | None = None


class Images:
    """The images of a namespace."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def get(self, name: str) -> Image:
        """The image called `name`; raises NotFound."""
        answer = await self._channel.call(
            f"{_SERVICE}/Get", pb.GetImageRequest(name=name), pb.GetImageResponse
        )
        return _image(answer.image)

    async def list(self, filters: Sequence[str] = ()) -> list[Image]:
        """The images that at least one of `filters` selects, by name; all without filters."""
        request = pb.ListImagesRequest(filters=filters)
        answer = await self._channel.call(f"{_SERVICE}/List", request, pb.ListImagesResponse)
        return [_image(message) for message in answer.images]

    async def create(self, image: Image) -> Image:
        """Give content a name; raises AlreadyExists."""
        request = pb.CreateImageRequest(image=_message(image))
        answer = await self._channel.call(f"{_SERVICE}/Create", request, pb.CreateImageResponse)
        return _image(answer.image)

    async def update(self, image: Image, paths: Sequence[str] = ()) -> Image:
        """Change what `paths` name (labels, labels.K, target), or labels and target as a whole."""
        request = pb.UpdateImageRequest(image=_message(image), update_mask=FieldMask(paths=paths))
        answer = await self._channel.call(f"{_SERVICE}/Update", request, pb.UpdateImageResponse)
        return _image(answer.image)

    async def put(self, image: Image) -> Image:
        """Create the image, or point an existing name at the new target; its other labels stay."""
        try:
            return await self.create(image)
        except AlreadyExists:
            paths = ["target", *(f"labels.{key}" for key in image.labels)]
            return await self.update(replace(image, labels=dict(image.labels)), paths)

    async def delete(self, name: str, *, sync: bool = False) -> None:
        """Delete the name; with `sync`, return when what only it kept has been collected. Raises NotFound."""
        await self._channel.call(f"{_SERVICE}/Delete", pb.DeleteImageRequest(name=name, sync=sync), Empty)


def _image(message: pb.Image) -> Image:
    return Image(
        name=message.name,
        target=convert.descriptor(message.target),
        labels=dict(message.labels),
        created_at=convert.instant(message.created_at),
        updated_at=convert.instant(message.updated_at),
    )


def _message(image: Image) -> pb.Image:
    return pb.Image(name=image.name, labels=image.labels, target=convert.descriptor_message(image.target))
