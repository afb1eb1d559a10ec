"""A sandbox's record: what its containers have in common (containerd: core/sandbox). Rules: contract 14."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from supervisor.errors import InvalidArgument
from supervisor.model.any import Any
from supervisor.model.container import Runtime
from supervisor.model.fieldmask import MaskPath, merged_map
from supervisor.model.identifiers import check_identifier, stored_labels
from supervisor.model.instant import EPOCH, Nanoseconds
from supervisor.model.predicate import Path, entry

MASK_FIELDS = ("labels", "extensions", "spec", "runtime")
MASK_MAPS = ("labels", "extensions")
REPLACE_ALL = tuple(MaskPath(name) for name in MASK_FIELDS)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a sandbox is to be; whether it runs is its controller's to know."""

    id: str
    runtime: Runtime
    spec: Any | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)
    sandboxer: str = ""
    created_at: Nanoseconds = EPOCH
    updated_at: Nanoseconds = EPOCH

    def field(self, path: Path) -> str | None:
        """The field that a filter's path names."""
        match path:
            case ("id", *_):
                return self.id
            case ("labels", *_):
                return entry(self.labels, path[1:])
        return None


def validate(sandbox: Sandbox) -> None:
    """Raise InvalidArgument for a record that must not be stored; sizes of labels have no bound here."""
    check_identifier(sandbox.id, "sandbox id")
    for name, entries in (("label", sandbox.labels), ("extension", sandbox.extensions)):
        if "" in entries:
            raise InvalidArgument(f"sandbox {sandbox.id!r}: the key of a {name} must not be empty")


def updated(stored: Sandbox, given: Sandbox, mask: tuple[MaskPath, ...]) -> Sandbox:
    """`stored` changed to what `given` says in the fields of `mask`; an empty mask means all of them.

    Without a mask the runtime's name has to be repeated as it is; with one it may change. The sandboxer
    never does. A spec, and options of the runtime, that a request does not bring stay.
    """
    if not mask and given.runtime.name != stored.runtime.name:
        raise InvalidArgument(
            f"sandbox {stored.id!r}: runtime.name field is immutable without a mask: it is"
            f" {stored.runtime.name!r}, not {given.runtime.name!r}"
        )
    for path in mask or REPLACE_ALL:
        stored = _change(stored, given, path)
    return stored


def _change(stored: Sandbox, given: Sandbox, path: MaskPath) -> Sandbox:
    match path.field:
        case "labels":
            return replace(stored, labels=stored_labels(merged_map(stored.labels, given.labels, path.key)))
        case "extensions":
            return replace(stored, extensions=merged_map(stored.extensions, given.extensions, path.key))
        case "runtime":
            options = given.runtime.options or stored.runtime.options
            return replace(stored, runtime=Runtime(given.runtime.name, options))
        case _:
            return replace(stored, spec=given.spec or stored.spec)
