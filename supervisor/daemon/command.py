"""The command `container-supervisor`: serve, configuration, care for the store, shims' old way to publish."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from supervisor.daemon import config as configuration
from supervisor.daemon import logs, store_commands
from supervisor.errors import SupervisorError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it succeeded, 1 with a message on standard error when not."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except SupervisorError as error:
        print(f"container-supervisor: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read us has left; there is nobody to complain to, also not at exit.
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="container-supervisor", description="A container supervisor daemon."
    )
    # Shims call `BINARY --address SOCKET publish ...`, so the address may also stand before the command.
    parser.add_argument("--address", dest="address_before", metavar="SOCKET", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the daemon until it is told to stop")
    _add_settings(serve)
    serve.set_defaults(run=_serve)
    settings = commands.add_parser("config", help="show or check the configuration")
    verbs = settings.add_subparsers(required=True, metavar="VERB")
    for name, text, run in (
        ("default", "print the defaults", _config_default),
        ("dump", "print the configuration in force", _config_dump),
        ("check", "say whether the configuration is valid", _config_check),
    ):
        verb = verbs.add_parser(name, help=text)
        _add_settings(verb)
        verb.set_defaults(run=run)
    doctor = commands.add_parser("doctor", help="say whether this machine and this installation are fit")
    _add_settings(doctor)
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(run=_doctor)
    store_commands.add_to(commands)
    publish = commands.add_parser("publish", help="publish an event read from standard input (for shims)")
    publish.add_argument("--topic", required=True)
    publish.add_argument("--namespace", required=True)
    publish.set_defaults(run=_publish)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file of settings")
    parser.add_argument("--root", metavar="DIR", help="what must survive a reboot")
    parser.add_argument("--state", metavar="DIR", help="what need not: sockets, bundles")
    parser.add_argument("--address", metavar="SOCKET", help="socket for clients")
    parser.add_argument("--log-level", choices=configuration.LEVELS)


def _overridden(config: configuration.Config, options: argparse.Namespace) -> configuration.Config:
    return configuration.override(
        config,
        root=options.root,
        state=options.state,
        address=options.address or options.address_before,
        log_level=options.log_level,
    )


def _configured(options: argparse.Namespace) -> configuration.Config:
    return _overridden(configuration.load(options.config), options)


def _serve(options: argparse.Namespace) -> int:
    import uvloop

    # This loads the store and the services, which the other commands do not need.
    from supervisor.daemon.server import serve

    config = _configured(options)
    logs.set_up(config.log.level, config.log.format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config))
    return 0


def _config_default(options: argparse.Namespace) -> int:
    print(configuration.dump(configuration.Config()), end="")
    return 0


def _config_dump(options: argparse.Namespace) -> int:
    print(configuration.dump(_configured(options)), end="")
    return 0


def _config_check(options: argparse.Namespace) -> int:
    _configured(options)
    print("the configuration is valid")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from supervisor.daemon.doctor import examination

    defaults = _overridden(configuration.Config(), options)
    return examination(lambda: _configured(options), defaults, options.config, json=options.json)


def _publish(options: argparse.Namespace) -> int:
    from supervisor.daemon.publish import publish

    asyncio.run(publish(options.address_before, options.namespace, options.topic, sys.stdin.buffer.read()))
    return 0
