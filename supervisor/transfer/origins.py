"""Where content came from: labels by which a push takes it over (containerd: core/remotes/docker, handler).

One label for each host names the repositories of it, so that another repository there need not be sent
what it can have from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from supervisor.errors import InvalidArgument
from supervisor.model.identifiers import check_labels
from supervisor.oci.references import Reference

_SOURCE = "containerd.io/distribution.source."


def label(reference: Reference) -> dict[str, str]:
    """The label of what comes from a repository."""
    return {_key(reference): reference.repository}


def of(labels: Mapping[str, str]) -> dict[str, str]:
    """Those of a blob's labels that say where it came from."""
    return {key: value for key, value in labels.items() if key.startswith(_SOURCE)}


def joined(key: str, known: str | None, new: str) -> str:
    """The value that a label gets: repositories join those that are known, as long as they fit in."""
    if not key.startswith(_SOURCE) or not known:
        return new
    both = ",".join(sorted({*known.split(","), *new.split(",")}))
    try:
        check_labels({key: both})
    except InvalidArgument:
        return known
    return both


def elsewhere(labels: Mapping[str, str], reference: Reference) -> list[str]:
    """Other repositories of the same registry that have a blob, the one with the likest name first."""
    here = reference.repository.split("/")
    found = {name for name in labels.get(_key(reference), "").split(",") if name} - {reference.repository}
    return sorted(found, key=lambda name: (-_common(here, name.split("/")), name))


def _key(reference: Reference) -> str:
    """By the host alone, without its port."""
    return f"{_SOURCE}{urlsplit(f'//{reference.host}').hostname}"


def _common(one: list[str], other: list[str]) -> int:
    """How many of their first words agree."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
