"""An image: a name for content (containerd: core/images). Rules: contract 5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from supervisor.errors import InvalidArgument
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import digest
from supervisor.model.fieldmask import MaskPath, merged_map
from supervisor.model.identifiers import check_labels, stored_labels
from supervisor.model.instant import EPOCH, Nanoseconds
from supervisor.model.predicate import Path, entry, present

MASK_FIELDS = ("labels", "target", "annotations")
MASK_MAPS = ("labels", "annotations")
REPLACE_ALL = (MaskPath("labels"), MaskPath("target"))


@dataclass(frozen=True, slots=True)
class Image:
    """A name, the descriptor it stands for, and labels; the content need not exist."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: Nanoseconds = EPOCH
    updated_at: Nanoseconds = EPOCH

    def field(self, path: Path) -> str | None:
        """The field that a filter's path names."""
        match path:
            case ("name", *_):
                return present(self.name)
            case ("target", "digest", *_):
                return present(self.target.digest)
            case ("target", "mediatype", *_):
                return present(self.target.media_type)
            case ("labels", *_):
                return entry(self.labels, path[1:])
            case ("annotations", *_):
                return entry(self.target.annotations, path[1:])
        return None


def check_name(name: str) -> None:
    """Raise InvalidArgument for an empty name; any other text names an image."""
    if not name:
        raise InvalidArgument("image name must not be empty")


def validate(image: Image) -> None:
    """Raise InvalidArgument for a record that must not be stored."""
    check_name(image.name)
    check_labels(image.labels)
    digest(image.target.digest)
    if image.target.size <= 0:
        raise InvalidArgument(f"image {image.name!r}: target size {image.target.size} must be above zero")
    if not image.target.media_type:
        raise InvalidArgument(f"image {image.name!r}: target media type must be set")


def updated(stored: Image, given: Image, mask: tuple[MaskPath, ...]) -> Image:
    """`stored` changed to what `given` says in the fields of `mask`; empty means labels and target."""
    for path in mask or REPLACE_ALL:
        stored = _change(stored, given, path)
    return stored


def _change(stored: Image, given: Image, path: MaskPath) -> Image:
    match path.field:
        case "labels":
            return replace(stored, labels=stored_labels(merged_map(stored.labels, given.labels, path.key)))
        case "target":
            annotations = stored_labels(given.target.annotations)
            return replace(stored, target=replace(given.target, annotations=annotations))
        case _:
            merged = merged_map(stored.target.annotations, given.target.annotations, path.key)
            return replace(stored, target=replace(stored.target, annotations=stored_labels(merged)))
