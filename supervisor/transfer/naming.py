"""What an image is called once it is here (containerd: core/transfer/image, Store)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from supervisor.errors import NotFound
from supervisor.model.descriptor import Descriptor
from supervisor.model.image import Image


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
        """The images to store for what was pulled, or for an archive's own index."""
        names = [self.name] if self.name else []
        for rule in self.rules:
            if not rule.is_prefix:
                names.append(f"{rule.name}@{target.digest}" if rule.add_digest else rule.name)
        return [Image(name, target, dict(self.labels)) for name in names]

    def of_archived(self, target: Descriptor, full: str, tag: str) -> list[Image]:
        """The images to store for one in an archive that is called `full`, or only tagged `tag` there."""
        names: list[str] = []
        for rule in self.rules:
            if not rule.is_prefix:
                continue
            found = _matching(rule, full, tag)
            if found:
                names.append(found)
            if rule.add_digest and not (found and rule.skip_named_digest):
                names.append(f"{rule.name}@{target.digest}")
        return [Image(name, target, dict(self.labels)) for name in dict.fromkeys(names)]

    def required(self) -> str:
        """The one name; raises NotFound when there is none."""
        if not self.name:
            raise NotFound("no image name found: the request names no image")
        return self.name


def _matching(rule: NameRule, full: str, tag: str) -> str:
    """The name of an archived image under a rule, empty when the rule does not know it."""
    if full:
        fits = full.startswith((f"{rule.name}:", f"{rule.name}@"))
        return full if fits or rule.allow_overwrite else ""
    return f"{rule.name}:{tag}" if tag else ""
