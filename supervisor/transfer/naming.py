"""What an image is called once it is here (containerd: core/transfer/image, Store)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from supervisor.errors import NotFound
from supervisor.model.descriptor import Descriptor
from supervisor.model.image import Image
from supervisor.model.instant import format_rfc3339, now
from supervisor.model.lease import EXPIRE_LABEL
from supervisor.oci.archive import NamedTarget

_BELONGS_TO = "containerd.io/gc.bref.image"


@dataclass(frozen=True, slots=True)
class NameRule:
    """A further name, or how the names of an archive's images must begin."""

    name: str
    is_prefix: bool = False
    allow_overwrite: bool = False
    """Whether a name in the archive that begins otherwise is taken too."""
    add_digest: bool = False
    """Whether `NAME@DIGEST` becomes a name."""
    skip_named_digest: bool = False
    """Whether it does not where the archive has a name."""


@dataclass(frozen=True, slots=True)
class Naming:
    """The names that a transfer gives, and the labels of the images."""

    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    rules: Sequence[NameRule] = ()

    def of_target(self, target: Descriptor) -> list[Image]:
        """The images to store for what was pulled, or for an archive's index."""
        names = [
            f"{rule.name}@{target.digest}" if rule.add_digest else rule.name
            for rule in self.rules
            if not rule.is_prefix
        ]
        named = [Image(self.name, target, dict(self.labels))] if self.name else []
        return named + [Image(name, target, self._further_labels()) for name in names]

    def of_archived(self, entry: NamedTarget) -> list[Image]:
        """The images to store for one in an archive."""
        names: list[str] = []
        for rule in self.rules:
            if not rule.is_prefix:
                continue
            found = _matching(rule, entry)
            if found:
                names.append(found)
            if rule.add_digest and not (found and rule.skip_named_digest):
                names.append(f"{rule.name}@{entry.target.digest}")
        return [Image(name, entry.target, self._further_labels()) for name in dict.fromkeys(names)]

    def _further_labels(self) -> dict[str, str]:
        """Beside a main name, further ones last as long as it does: collection takes them behind it."""
        if not self.name:
            return dict(self.labels)
        return {**self.labels, _BELONGS_TO: self.name, EXPIRE_LABEL: format_rfc3339(now())}

    def required(self) -> str:
        """The one name; raises NotFound when there is none."""
        if not self.name:
            raise NotFound("no image name found: the request names no image")
        return self.name


def _matching(rule: NameRule, entry: NamedTarget) -> str:
    """The name of an archived image under a rule, empty when the rule does not know it."""
    if entry.name:
        rest = entry.name.removeprefix(rule.name)
        fits = entry.name.startswith(rule.name) and (not rest or rest[0] in "/:@")
        return entry.name if fits or rule.allow_overwrite else ""
    return f"{rule.name}:{entry.tag}" if entry.tag else ""
