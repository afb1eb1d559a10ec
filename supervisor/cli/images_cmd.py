"""`sctr images`: import archives, list names, remove names."""

from __future__ import annotations

from pathlib import Path

from supervisor.cli import words
from supervisor.cli.context import Context
from supervisor.client.client import Client
from supervisor.client.images import Image
from supervisor.client.importing import Step, import_archive
from supervisor.client.running import find_image
from supervisor.client.unpacking import resolve, unpack
from supervisor.errors import NotFound
from supervisor.model.instant import format_rfc3339


async def load(context: Context) -> int:
    """Import archives and unpack what is for this machine."""
    args, found = context.args, []

    def report(step: Step) -> None:
        context.progress(f"{step.what:9} {words.short(step.name)}  {words.size(step.size)}")

    for path in args.archive:
        for image in await import_archive(context.client, Path(path), name=args.name or "", report=report):
            if not args.no_unpack:
                await unpack(context.client, image, snapshotter=args.snapshotter, report=report)
            found.append({"name": image.name, "digest": image.target.digest})
    text = "\n".join(f"imported {image['name']} ({image['digest']})" for image in found)
    if context.as_json:
        context.document(found)
    else:
        print(text)
    return 0


async def show(context: Context) -> int:
    """List the images."""
    rows = [await _row(context.client, image) for image in await context.client.images.list()]
    if context.args.quiet and not context.as_json:
        print("\n".join(str(row["name"]) for row in rows), end="\n" if rows else "")
        return 0
    columns = ("name", "digest", "size", "age", "platform")
    texts = rows if context.as_json else [_in_words(row) for row in rows]
    context.table(columns, texts)
    return 0


async def remove(context: Context) -> int:
    """Remove names; what no other name or container needs is collected."""
    removed = []
    for name in context.args.name:
        image = await find_image(context.client, name)
        await context.client.images.delete(image.name, sync=context.args.sync)
        removed.append(image.name)
    context.answer({"removed": removed}, "\n".join(removed))
    return 0


async def _row(client: Client, image: Image) -> dict[str, object]:
    row: dict[str, object] = {
        "name": image.name,
        "digest": image.target.digest,
        "media_type": image.target.media_type,
        "created_at": format_rfc3339(image.created_at) if image.created_at else None,
        "labels": dict(image.labels),
        "size": None,
        "platform": None,
        "age": words.age(image.created_at),
    }
    try:
        resolved = await resolve(client, image)
    except NotFound:  # its content is not here, or not for this machine: it has no size to speak of
        return row
    blobs = (resolved.manifest.config, *resolved.manifest.layers)
    return row | {"size": sum(blob.size for blob in blobs), "platform": str(resolved.config.platform)}


def _in_words(row: dict[str, object]) -> dict[str, object]:
    size = row["size"]
    return row | {
        "digest": words.short(str(row["digest"])),
        "size": words.size(size) if isinstance(size, int) else "-",
        "platform": row["platform"] or "-",
    }
