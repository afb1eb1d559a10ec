"""The words of the command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from supervisor.cli import (
    containers_cmd,
    events_cmd,
    exec_cmd,
    exits_cmd,
    gc_cmd,
    images_cmd,
    logs_cmd,
    registry_cmd,
    restarts_cmd,
    run_cmd,
    version_cmd,
)
from supervisor.cli.context import JSON, TEXT, Context
from supervisor.client.client import DEFAULT_ADDRESS, DEFAULT_NAMESPACE
from supervisor.client.containers import DEFAULT_RUNTIME
from supervisor.client.events import EVERYTHING
from supervisor.client.snapshots import DEFAULT_SNAPSHOTTER
from supervisor.client.transfers import Compression

Command = Callable[[Context], Awaitable[int]]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `run` in its result is the command."""
    top = argparse.ArgumentParser(prog="sctr", description="Run and look after containers.")
    _global_options(top, suppressed=False)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add(commands, "version", "versions of sctr and of the daemon", version_cmd.show)
    _images(commands)
    _run(commands)
    _ps(commands)
    _exits(commands)
    _add(
        commands, "restarts", "show which containers are kept running, and why one is not", restarts_cmd.show
    )
    _exec(commands)
    _logs(commands)
    _stop(commands)
    _kill(commands)
    _rm(commands)
    _events(commands)
    _gc(commands)
    return top


def _global_options(target: argparse.ArgumentParser, *, suppressed: bool) -> None:
    """Options that are understood before and after the command; only before it they have defaults."""

    def default(value: str) -> str:
        return argparse.SUPPRESS if suppressed else value

    address = os.environ.get("SCTR_ADDRESS", DEFAULT_ADDRESS)
    namespace = os.environ.get("SCTR_NAMESPACE", DEFAULT_NAMESPACE)
    group = target.add_argument_group("connection and answers")
    group.add_argument(
        "--address", metavar="SOCK", default=default(address), help="the daemon's socket (SCTR_ADDRESS)"
    )
    group.add_argument(
        "--namespace", "-n", metavar="NS", default=default(namespace), help="namespace (SCTR_NAMESPACE)"
    )
    group.add_argument("--output", "-o", choices=(TEXT, JSON), default=default(TEXT), help="form of answers")


def _add(commands: Commands, name: str, text: str, command: Command) -> argparse.ArgumentParser:
    added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    _global_options(added, suppressed=True)
    added.set_defaults(command_function=command)
    return added


def _images(commands: Commands) -> None:
    nouns = commands.add_parser("images", help="images: pull, push, import, export, convert, tag, ls, rm")
    verbs = nouns.add_subparsers(title="commands", metavar="COMMAND", required=True)
    load = _add(verbs, "import", "import OCI or docker archives", images_cmd.load)
    load.add_argument("archive", nargs="+", help="tar file, plain or compressed")
    load.add_argument("--name", help="what to call the image of an archive that holds one")
    load.add_argument("--no-unpack", action="store_true", help="store the blobs only")
    _snapshotter(load)
    pull = _add(verbs, "pull", "pull an image from a registry and unpack it", registry_cmd.pull)
    pull.add_argument("image", help="busybox, or host/repository:tag")
    pull.add_argument("--no-unpack", action="store_true", help="store the blobs only")
    _snapshotter(pull)
    _registry(pull)
    push = _add(verbs, "push", "push an image to a registry", registry_cmd.push)
    push.add_argument("image")
    push.add_argument("reference", nargs="?", help="where to, if not where its name says")
    _registry(push)
    export = _add(verbs, "export", "write images as an archive for containerd or Docker", registry_cmd.export)
    export.add_argument("archive", help="tar file to write; - for standard output")
    export.add_argument("image", nargs="+")
    export.add_argument("--platform", action="append", default=[], metavar="OS/ARCH")
    export.add_argument("--all-platforms", action="store_true")
    convert = _add(
        verbs, "convert", "make an image with layers compressed in another way", registry_cmd.convert
    )
    convert.add_argument("image")
    convert.add_argument("name", help="what to call the image that is made")
    convert.add_argument("--compression", choices=[one.value for one in Compression], default="zstd")
    convert.add_argument("--platform", action="append", default=[], metavar="OS/ARCH", help="of an index")
    tag = _add(verbs, "tag", "give an image another name", registry_cmd.tag)
    tag.add_argument("image")
    tag.add_argument("name")
    show = _add(verbs, "ls", "list images", images_cmd.show)
    show.add_argument("-q", "--quiet", action="store_true", help="names only")
    remove = _add(verbs, "rm", "remove names of images", images_cmd.remove)
    remove.add_argument("name", nargs="+")
    remove.add_argument("--sync", action="store_true", help="return when the space is free again")


def _registry(target: argparse.ArgumentParser) -> None:
    target.add_argument("--platform", action="append", default=[], metavar="OS/ARCH", help="of an index")
    target.add_argument("--plain-http", action="store_true", help="do not expect TLS")
    target.add_argument("--hosts-dir", help="folder of hosts.toml files, as the daemon sees it")
    target.add_argument(
        "--user", "-u", metavar="USER[:SECRET]", help="in place of Docker's config.json; asked for the secret"
    )


def _run(commands: Commands) -> None:
    run = _add(commands, "run", "run a container from an image", run_cmd.run)
    run.add_argument("--name", help="the container's id; made up when not given")
    run.add_argument("--rm", action="store_true", help="remove the container when it has ended")
    run.add_argument("-d", "--detach", action="store_true", help="return when it has started; see logs")
    _process_options(run)
    run.add_argument("-u", "--user", help="user[:group], names of the image or numbers")
    run.add_argument(
        "--mount",
        action="append",
        default=[],
        metavar="MOUNT",
        help="type=bind,src=..,dst=..,options=rbind:ro",
    )
    run.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    run.add_argument("--net-host", action="store_true", help="use the host's network")
    run.add_argument("--read-only", action="store_true", help="a root that cannot be written")
    run.add_argument("--runtime", default=DEFAULT_RUNTIME, help="name of the runtime's shim")
    run.add_argument("--log-dir", help="where -d keeps the output; by default below the daemon's root")
    _snapshotter(run)
    run.add_argument("image")
    run.add_argument("command", nargs=argparse.REMAINDER, help="in place of the image's own")


def _exec(commands: Commands) -> None:
    execute = _add(commands, "exec", "run one more process in a container", exec_cmd.execute)
    _process_options(execute)
    execute.add_argument("container")
    execute.add_argument("command", nargs=argparse.REMAINDER)


def _process_options(target: argparse.ArgumentParser) -> None:
    target.add_argument("-t", "--tty", dest="terminal", action="store_true", help="give it a terminal")
    target.add_argument("-i", "--interactive", action="store_true", help="give it our input")
    target.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    target.add_argument("-w", "--workdir", help="folder it starts in")


def _snapshotter(target: argparse.ArgumentParser) -> None:
    target.add_argument("--snapshotter", default=DEFAULT_SNAPSHOTTER, help="who keeps the file systems")


def _ps(commands: Commands) -> None:
    show = _add(commands, "ps", "list containers", containers_cmd.show)
    show.add_argument("-a", "--all", action="store_true", help="also those that do not run")
    show.add_argument("-q", "--quiet", action="store_true", help="ids only")


def _gc(commands: Commands) -> None:
    nouns = commands.add_parser("gc", help="garbage collection: explain, plan, run")
    verbs = nouns.add_subparsers(title="commands", metavar="COMMAND", required=True)
    explain = _add(verbs, "explain", "show what keeps an object: the path from a root to it", gc_cmd.explain)
    kinds = "content, image, container, lease, ingest, sandbox, mount, snapshot/SNAPSHOTTER"
    explain.add_argument("type", help=kinds)
    explain.add_argument("key", help="digest, name, id, ref or key")
    _add(verbs, "plan", "show exactly what a run would remove now, and its size", gc_cmd.plan)
    run = _add(verbs, "run", "remove what nothing keeps", gc_cmd.run)
    run.add_argument("plan", nargs="?", help="id of a plan: remove what it lists and nothing else")


def _exits(commands: Commands) -> None:
    show = _add(commands, "exits", "show how containers and execs ended, also deleted ones", exits_cmd.show)
    show.add_argument("--limit", type=int, default=50, metavar="N", help="the newest N (50)")
    show.add_argument("container", nargs="?", help="of this container only")


def _logs(commands: Commands) -> None:
    show = _add(commands, "logs", "show what a detached container wrote", logs_cmd.show)
    show.add_argument("-f", "--follow", action="store_true", help="go on until it has ended")
    when = "RFC 3339, or a span back from now like 10m"
    show.add_argument("--since", metavar="TIME", help=f"what was written since then: {when}")
    show.add_argument(
        "--until", metavar="TIME", help="what was written until then; with -f, go on until then"
    )
    show.add_argument("--tail", type=int, metavar="N", help="the last N lines of that")
    show.add_argument("container")


def _stop(commands: Commands) -> None:
    stop = _add(commands, "stop", "end containers, by force if need be", containers_cmd.stop)
    stop.add_argument(
        "-t", "--time", type=float, default=10.0, metavar="SECONDS", help="before force is used"
    )
    stop.add_argument("-s", "--signal", help="in place of what the image asks for")
    stop.add_argument("container", nargs="+")


def _kill(commands: Commands) -> None:
    kill = _add(commands, "kill", "send a signal to containers", containers_cmd.kill)
    kill.add_argument("-s", "--signal", default="KILL")
    kill.add_argument("container", nargs="+")


def _rm(commands: Commands) -> None:
    remove = _add(commands, "rm", "remove containers", containers_cmd.remove)
    remove.add_argument("-f", "--force", action="store_true", help="also those that run")
    remove.add_argument("container", nargs="+")


def _cursor(text: str) -> int:
    return EVERYTHING if text == "all" else int(text)


def _events(commands: Commands) -> None:
    show = _add(commands, "events", "show what happens", events_cmd.show)
    show.add_argument("--all", action="store_true", help="of all namespaces")
    show.add_argument("--filter", action="append", default=[], help="containerd's filter language")
    show.add_argument(
        "--since",
        type=_cursor,
        metavar="NUMBER|all",
        help="begin behind the event of this sequence number, or with all that are kept; go on over restarts",
    )
