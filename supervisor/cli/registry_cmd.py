"""`sctr images pull`, `push`, `export`, `tag`: what the daemon's transfers do."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from supervisor.cli.context import Context
from supervisor.cli.progress import Bars
from supervisor.client.logins import from_docker, only_for
from supervisor.client.running import find_image
from supervisor.client.transfers import Compression, Login, Registry
from supervisor.errors import InvalidArgument
from supervisor.model.platform import Platform
from supervisor.oci import platform as platforms
from supervisor.oci import references


async def pull(context: Context) -> int:
    """Pull an image; unpacked for this machine, or the first platform that is named."""
    args, bars = context.args, Bars(quiet=context.as_json)
    reference = references.normal(args.image)
    try:
        await context.client.transfers.pull(
            reference,
            registry=_registry(args, reference),
            wanted=_platforms(args.platform),
            unpack=None if args.no_unpack else args.snapshotter,
            report=bars.report,
        )
    finally:
        bars.finish()
    image = await context.client.images.get(reference)
    context.answer(
        {"name": image.name, "digest": image.target.digest}, f"{image.name} ({image.target.digest})"
    )
    return 0


async def push(context: Context) -> int:
    """Push an image."""
    args, bars = context.args, Bars(quiet=context.as_json)
    image = await find_image(context.client, args.image)
    reference = references.normal(args.reference or image.name)
    try:
        await context.client.transfers.push(
            image.name,
            reference,
            registry=_registry(args, reference),
            wanted=_platforms(args.platform),
            report=bars.report,
        )
    finally:
        bars.finish()
    _answer(context, reference, image.target.digest)
    return 0


async def export(context: Context) -> int:
    """Write images to a file, which appears when it is whole, or to standard output."""
    args = context.args
    names = [(await find_image(context.client, name)).name for name in args.image]
    if args.archive == "-":
        await _export(context, names, sys.stdout.buffer)
        return 0
    target = Path(args.archive)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with partial.open("xb") as file:
            await _export(context, names, file)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    context.answer({"archive": str(target), "images": names}, f"{target}: {', '.join(names)}")
    return 0


async def convert(context: Context) -> int:
    """Make an image with the same files, compressed in another way."""
    args = context.args
    image, name = await find_image(context.client, args.image), references.normal(args.name)
    made = await context.client.transfers.convert(
        image.name, name, Compression(args.compression), wanted=_platforms(args.platform)
    )
    _answer(context, name, made.digest)
    return 0


async def tag(context: Context) -> int:
    """Give an image another name."""
    image = await find_image(context.client, context.args.image)
    name = references.normal(context.args.name)
    await context.client.transfers.tag(image.name, name)
    context.answer({"name": name, "digest": image.target.digest}, name)
    return 0


def _answer(context: Context, name: str, digest: str) -> None:
    context.answer({"name": name, "digest": digest}, f"{name} ({digest})")


async def _export(context: Context, names: Sequence[str], file: BinaryIO) -> None:
    await context.client.transfers.export(
        names,
        file,
        wanted=_platforms(context.args.platform),
        all_platforms=context.args.all_platforms,
    )


def _platforms(texts: Sequence[str]) -> list[Platform]:
    return [platforms.parse(text) for text in texts]


def _registry(args: argparse.Namespace, reference: str) -> Registry:
    """How to reach the registry, and who we are there; its mirrors are not told what --user says."""
    given = _given(args.user) if args.user else None
    registry = references.parse(reference).host

    async def login(host: str) -> Login | None:
        known = only_for(registry, given, host) if given else None
        return known or await asyncio.to_thread(from_docker, host)

    return Registry(login, hosts=args.hosts_dir or "", scheme="http" if args.plain_http else "")


def _given(text: str) -> Login:
    user, colon, secret = text.partition(":")
    if not colon:
        if not sys.stdin.isatty():
            raise InvalidArgument("--user USER asks for the secret on a terminal; say USER:SECRET otherwise")
        secret = getpass.getpass(f"secret of {user}: ")
    return Login(user, secret)
