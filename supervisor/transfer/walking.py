"""From an image's target to its parts: documents read, platforms chosen, labels that keep what they name.

(containerd: core/images, Children and its filters.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.errors import InvalidArgument, NotFound
from supervisor.model.descriptor import Descriptor
from supervisor.model.platform import Platform
from supervisor.oci import image as documents
from supervisor.oci import platform as platforms
from supervisor.oci.image import Index, IndexEntry, Manifest

MAX_DEPTH = 4
"""How deep indexes lie in each other at most."""

_REF = "containerd.io/gc.ref.content"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images of an index are meant: none named means all."""

    platforms: tuple[Platform, ...] = ()
    limit: int = 0
    """At most so many of them, the best first; 0 is no limit."""

    def of(self, index: Index) -> list[IndexEntry]:
        """The entries of an index that are meant, in their order; raises NotFound when there are none."""
        if not self.platforms:
            return list(index.entries[: self.limit or None])
        ranked = [
            (rank, place)
            for place, entry in enumerate(index.entries)
            if (rank := self._rank(entry)) is not None
        ]
        if not ranked and index.entries:
            offered = ", ".join(str(entry.platform) for entry in index.entries[:20])
            asked = ", ".join(map(str, self.platforms))
            raise NotFound(f"no image for {asked} in the index; it offers {offered}")
        best = sorted(ranked)[: self.limit or None]
        return [index.entries[place] for place in sorted(place for _, place in best)]

    def _rank(self, entry: IndexEntry) -> int | None:
        ranks = [platforms.rank(entry.platform, wanted) for wanted in self.platforms]
        return min((rank for rank in ranks if rank is not None), default=None)


EVERYTHING = Wanted()
"""All images of an index."""


def is_document(target: Descriptor) -> bool:
    """Whether it is an index or a manifest, which name further parts."""
    return target.media_type in documents.INDEX_TYPES | documents.MANIFEST_TYPES


def children(parsed: Index | Manifest) -> list[Descriptor]:
    """All that a document names."""
    if isinstance(parsed, Index):
        return [entry.descriptor for entry in parsed.entries]
    return [parsed.config, *parsed.layers]


def reference_labels(parsed: Index | Manifest) -> Mapping[str, str]:
    """The labels by which a document keeps all of its parts, also those that come later or never."""
    if isinstance(parsed, Index):
        keyed = {f"m.{number}": entry.descriptor for number, entry in enumerate(parsed.entries)}
    else:
        layers = {f"l.{number}": layer for number, layer in enumerate(parsed.layers)}
        keyed = {"config": parsed.config, **layers}
    return {f"{_REF}.{key}": part.digest for key, part in keyed.items()}


def check_depth(depth: int, target: Descriptor) -> None:
    """Raise InvalidArgument for an index too deep inside others."""
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"{target.digest}: indexes lie more than {MAX_DEPTH} deep in each other")
