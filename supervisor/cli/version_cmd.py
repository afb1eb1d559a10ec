"""`sctr version`: of this program, and of the daemon it talks to."""

from __future__ import annotations

from importlib.metadata import version

from supervisor.cli.context import Context


async def show(context: Context) -> int:
    """Tell both versions."""
    daemon = await context.client.introspection.version()
    server = await context.client.introspection.server()
    value = {
        "client": {"version": version("container-supervisor")},
        "server": {"version": daemon.version, "revision": daemon.revision, "uuid": server.uuid},
    }
    text = [
        f"client   {version('container-supervisor')}",
        f"server   {daemon.version} {daemon.revision}".rstrip(),
        f"uuid     {server.uuid}",
    ]
    context.answer(value, "\n".join(text))
    return 0
