"""`sctr run`: a container from an image, in front of us or detached."""

from __future__ import annotations

import secrets
import sys
from contextlib import suppress
from dataclasses import replace

from supervisor.cli import logs, problems, session
from supervisor.cli.context import Context
from supervisor.client import running, stdio
from supervisor.client.client import Client
from supervisor.client.containers import Container
from supervisor.client.running import ContainerOptions
from supervisor.client.tasks import Streams
from supervisor.errors import InvalidArgument, NotFound, SupervisorError
from supervisor.oci.runtime import SpecMount

_NAME_BYTES = 4


async def run(context: Context) -> int:
    """Make and start a container; answers its exit code when it runs in front of us."""
    args = context.args
    if args.detach and (args.terminal or args.interactive or args.rm):
        raise InvalidArgument("run -d: nobody will sit there, so leave out -t, -i and --rm")
    options = _options(context)
    if args.detach:
        return await _detached(context, options)
    container = await running.create_container(context.client, options)
    return await _attended(context, container)


async def _attended(context: Context, container: Container) -> int:
    args, client = context.args, context.client
    keep = False
    try:
        async with stdio.fifos(
            context.fifo_directory, stdin=args.interactive, terminal=args.terminal
        ) as ends:
            mounts = await running.container_mounts(client, container)
            task = await client.tasks.create(container.id, rootfs=mounts, streams=ends.streams)
            ended = await session.attend(task, ends)
            keep = not args.rm
            return ended.code
    except SupervisorError as error:
        problems.tell(error, as_json=context.as_json)
        return problems.start_code(error)
    finally:
        if not keep:
            await _clean(client, container.id)


async def _detached(context: Context, options: ContainerOptions) -> int:
    client = context.client
    path = await logs.place(client, options.id, context.args.log_dir)
    labelled = dict(options.labels) | {logs.LABEL: str(path)}
    container = await running.create_container(client, replace(options, labels=labelled))
    try:
        uri = logs.prepare(path)
        mounts = await running.container_mounts(client, container)
        streams = Streams(stdout=uri, stderr=uri)
        task = await client.tasks.create(container.id, rootfs=mounts, streams=streams)
        pid = await task.start()
    except SupervisorError as error:
        await _clean(client, container.id)
        logs.remove(client.namespace, container.id, path)
        problems.tell(error, as_json=context.as_json)
        return problems.start_code(error)
    context.answer({"id": container.id, "pid": pid, "log": str(path)}, container.id)
    return 0


async def _clean(client: Client, name: str) -> None:
    """Remove a container that is of no use any more; say it when that fails, since the exit code cannot."""
    try:
        with suppress(NotFound):
            await running.remove(client, name, force=True)
    except SupervisorError as error:
        print(f"sctr: {name} was not removed: {error}", file=sys.stderr)


def _options(context: Context) -> ContainerOptions:
    args = context.args
    return ContainerOptions(
        id=args.name or f"c-{secrets.token_hex(_NAME_BYTES)}",
        image=args.image,
        command=args.command,
        env=args.env,
        mounts=[parse_mount(text) for text in args.mount],
        user=args.user or "",
        working_dir=args.workdir or "",
        terminal=args.terminal,
        host_network=args.net_host,
        read_only=args.read_only,
        labels=dict(parse_label(text) for text in args.label),
        snapshotter=args.snapshotter,
        runtime=args.runtime,
    )


def parse_mount(text: str) -> SpecMount:
    """A mount given as `type=bind,src=/host,dst=/inside,options=rbind:ro`; raises InvalidArgument."""
    fields: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidArgument(f"mount {text!r}: {part!r} is not of the form key=value")
        fields[_MOUNT_KEYS.get(key, key)] = value
    unknown = fields.keys() - {"type", "source", "destination", "options"}
    if unknown or not fields.get("destination", "").startswith("/"):
        what = f"unknown key {', '.join(sorted(unknown))}" if unknown else "dst must be an absolute path"
        raise InvalidArgument(
            f"mount {text!r}: {what}; write type=bind,src=/host,dst=/inside,options=rbind:ro"
        )
    kind = fields.get("type", "bind")
    options = fields["options"].split(":") if fields.get("options") else _default_options(kind)
    return SpecMount(fields["destination"], fields.get("source", kind), kind, tuple(options))


_MOUNT_KEYS = {"src": "source", "dst": "destination", "target": "destination"}


def _default_options(kind: str) -> list[str]:
    return ["rbind", "rw"] if kind == "bind" else []


def parse_label(text: str) -> tuple[str, str]:
    """A label given as `key=value`; raises InvalidArgument."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InvalidArgument(f"label {text!r} is not of the form key=value")
    return key, value
