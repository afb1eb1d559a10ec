"""A container's record: what a task is made of (containerd: core/containers). Rules: contract 4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from supervisor.errors import InvalidArgument
from supervisor.model.any import Any
from supervisor.model.fieldmask import MaskPath, merged_map
from supervisor.model.identifiers import check_identifier, check_labels, stored_labels
from supervisor.model.instant import EPOCH, Nanoseconds
from supervisor.model.predicate import Path, entry, present

MASK_FIELDS = ("labels", "spec", "extensions", "image", "snapshotkey")
MASK_MAPS = ("labels", "extensions")
REPLACE_ALL = tuple(MaskPath(name) for name in MASK_FIELDS)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime's name and its options, which only the runtime understands."""

    name: str
    options: Any | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """Nothing in it need exist: image, snapshot and sandbox are names."""

    id: str
    runtime: Runtime
    image: str = ""
    spec: Any | None = None
    snapshotter: str = ""
    snapshot_key: str = ""
    sandbox: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)
    created_at: Nanoseconds = EPOCH
    updated_at: Nanoseconds = EPOCH

    def field(self, path: Path) -> str | None:
        """The field that a filter's path names."""
        match path:
            case ("id", *_):
                return present(self.id)
            case ("image", *_):
                return present(self.image)
            case ("runtime", "name", *_):
                return present(self.runtime.name)
            case ("labels", *_):
                return entry(self.labels, path[1:])
        return None


def validate(container: Container) -> None:
    """Raise InvalidArgument for a record that must not be stored.

    A missing spec passes, as it does in containerd: the runtime refuses it when a task is made.
    """
    check_identifier(container.id, "container id")
    if "" in container.extensions:
        raise InvalidArgument(f"container {container.id!r}: an extension's key must not be empty")
    check_labels(container.labels)
    if not container.runtime.name:
        raise InvalidArgument(f"container {container.id!r}: runtime.name must be set")
    if container.snapshot_key and not container.snapshotter:
        raise InvalidArgument(f"container {container.id!r}: snapshot_key needs snapshotter to be set")


def updated(stored: Container, given: Container, mask: tuple[MaskPath, ...]) -> Container:
    """`stored` changed to what `given` says in the fields of `mask`; an empty mask means all of them.

    Snapshotter and runtime never change: without a mask they have to be repeated as they are.
    A request that brings no spec leaves the stored one.
    """
    if not mask:
        _check_immutable(stored, given)
    for path in mask or REPLACE_ALL:
        stored = _change(stored, given, path)
    return stored


def _check_immutable(stored: Container, given: Container) -> None:
    for name, have, want in (
        ("snapshotter", stored.snapshotter, given.snapshotter),
        ("runtime.name", stored.runtime.name, given.runtime.name),
    ):
        if have != want:
            raise InvalidArgument(
                f"container {stored.id!r}: {name} field is immutable: it is {have!r}, not {want!r}"
            )


def _change(stored: Container, given: Container, path: MaskPath) -> Container:
    match path.field:
        case "labels":
            return replace(stored, labels=stored_labels(merged_map(stored.labels, given.labels, path.key)))
        case "extensions":
            return replace(stored, extensions=_merged_extensions(stored, given, path.key))
        case "image":
            return replace(stored, image=given.image)
        case "snapshotkey":
            return replace(stored, snapshot_key=given.snapshot_key)
        case _:
            return replace(stored, spec=given.spec or stored.spec)


def _merged_extensions(stored: Container, given: Container, key: str | None) -> dict[str, Any]:
    merged = merged_map(stored.extensions, given.extensions, key)
    if key is not None:
        merged.setdefault(key, Any("", b""))
    return merged
