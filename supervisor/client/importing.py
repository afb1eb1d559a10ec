"""Importing image archives: blobs into content, names into images (containerd: client/import.go).

The labels written here are what garbage collection follows; all clients of containerd write the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from supervisor.client.client import Client
from supervisor.client.images import Image
from supervisor.errors import InvalidArgument
from supervisor.model.descriptor import Descriptor
from supervisor.oci import archive, references
from supervisor.oci import image as documents
from supervisor.oci.archive import Archive
from supervisor.oci.image import Index

Report = Callable[["Step"], None]


@dataclass(frozen=True, slots=True)
class Step:
    """Something that importing or unpacking has done: `what` happened to the object `name`."""

    what: str
    name: str
    size: int = 0


def silent(step: Step) -> None:
    """A report that tells nobody."""


async def import_archive(
    client: Client, path: Path, *, name: str = "", report: Report = silent
) -> list[Image]:
    """Import every image of an archive, and call them as it says; `name` is for an archive of one image.

    Importing again is harmless: blobs that are there are not sent, names move to the new images.
    """
    with ExitStack() as stack:
        # Finding the members reads through the whole archive, and a docker archive is hashed as well.
        source = await asyncio.to_thread(stack.enter_context, archive.opened(path))
        named = _named(source, name, path)
        async with client.leased() as leased:
            for target in dict.fromkeys(entry.target.digest for entry in named):
                await _store(leased, source, _target(named, target), report)
            return [await leased.images.put(Image(entry.name, entry.target)) for entry in named]


def _named(source: Archive, name: str, path: Path) -> list[archive.NamedTarget]:
    if name and len({entry.target.digest for entry in source.images}) != 1:
        raise InvalidArgument(f"import {path}: it holds {len(source.images)} images, so one name does not do")
    if name:
        return [archive.NamedTarget(references.normal(name), source.images[0].target)]
    nameless = [entry.target.digest for entry in source.images if not entry.name]
    if nameless or not source.images:
        raise InvalidArgument(f"import {path}: it names no image; say what to call it")
    return [archive.NamedTarget(references.normal(entry.name), entry.target) for entry in source.images]


def _target(named: Sequence[archive.NamedTarget], digest: str) -> Descriptor:
    return next(entry.target for entry in named if entry.target.digest == digest)


async def _store(client: Client, source: Archive, target: Descriptor, report: Report) -> None:
    """Store what `target` points to, children first: nothing is labelled with what is missing."""
    if target.media_type in documents.INDEX_TYPES or target.media_type in documents.MANIFEST_TYPES:
        data = source.document(target)
        parsed = documents.parse(data, target.media_type)
        children = _children(parsed)
        for child in children.values():
            if source.has(child.digest):
                await _store(client, source, child, report)
            elif not isinstance(parsed, Index):
                raise InvalidArgument(f"the archive lacks {child.digest}, which image {target.digest} needs")
        labels = {f"containerd.io/gc.ref.content.{key}": child.digest for key, child in children.items()}
        await _put(client, source, target, labels, report)
    else:
        await _put(client, source, target, {}, report)


def _children(parsed: documents.Index | documents.Manifest) -> dict[str, Descriptor]:
    """What a document points to, by the end of the label that keeps it."""
    if isinstance(parsed, Index):
        return {f"m.{number}": entry.descriptor for number, entry in enumerate(parsed.entries)}
    layers = {f"l.{number}": layer for number, layer in enumerate(parsed.layers)}
    return {"config": parsed.config, **layers}


async def _put(
    client: Client, source: Archive, blob: Descriptor, labels: Mapping[str, str], report: Report
) -> None:
    with source.open(blob.digest) as opened:
        new = await client.content.put(
            f"import-{blob.digest}", opened, size=blob.size, digest=blob.digest, labels=labels
        )
    report(Step("stored" if new else "have", blob.digest, blob.size))
