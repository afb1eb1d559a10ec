"""What `format/` mounts have filled in, like `{{ mount 0 }}` (containerd: core/mount/manager, format.go).

Of Go's templates these are the actions that containerd defines for mounts; anything else is refused. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from supervisor.errors import InvalidArgument
from supervisor.model.activation import ActiveMount
from supervisor.model.mount import Mount

_ACTION = re.compile(r"\{\{([^{}]*)\}\}")
_WORDS = re.compile(r"\s*([a-z]+)((?:\s+\d{1,9})+)\s*")
_FIELDS: dict[str, Callable[[ActiveMount], str]] = {
    "source": lambda active: active.mount.source,
    "target": lambda active: active.mount.target,
    "mount": lambda active: active.mount_point,
}


def filled(mount: Mount, active: Sequence[ActiveMount]) -> Mount:
    """The mount with the actions in source, target and options replaced; raises InvalidArgument."""
    return replace(
        mount,
        source=_filled(mount.source, active),
        target=_filled(mount.target, active),
        options=tuple(_filled(option, active) for option in mount.options),
    )


def _filled(text: str, active: Sequence[ActiveMount]) -> str:
    if "{{" not in text:
        return text
    if "{{" in _ACTION.sub("", text):
        raise InvalidArgument(f"mount template {text[:200]!r}: an action is not closed")
    return _ACTION.sub(lambda match: _value(match[1], active), text)


def _value(action: str, active: Sequence[ActiveMount]) -> str:
    words = _WORDS.fullmatch(action)
    if words is None:
        raise InvalidArgument(
            f"mount template action {action.strip()!r}: known are source N, target N, mount N, overlay N M"
        )
    name, numbers = words[1], [int(number) for number in words[2].split()]
    if max(numbers) >= len(active):
        raise InvalidArgument(
            f"mount template action {action.strip()!r}: there are {len(active)} active mounts, from 0 on"
        )
    match name, numbers:
        case "overlay", [first, last]:
            return ":".join(active[index].mount_point for index in _span(first, last))
        case (("source" | "target" | "mount"), [index]):
            return _FIELDS[name](active[index])
    raise InvalidArgument(f"mount template action {action.strip()!r}: wrong name or number of indexes")


def _span(first: int, last: int) -> range:
    """From `first` to `last`, both included, in whichever direction."""
    return range(first, last + 1) if first <= last else range(first, last - 1, -1)
