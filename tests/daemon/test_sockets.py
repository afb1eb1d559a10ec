"""Further sockets of a running daemon, each for some of what it offers."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from supervisor.client.client import Client
from supervisor.errors import PermissionDenied
from tests.compat.conftest import a_target

pytestmark = [pytest.mark.compat, pytest.mark.root]


def test_each_socket_allows_what_it_is_for(tmp_path: Path) -> None:
    """The SDK by three sockets of one daemon; a refusal says which socket, and what it is for."""
    config = f"""
[sockets.watch]
path = "{tmp_path}/watch"
mode = "0600"
methods = ["read"]

[sockets.builds]
path = "{tmp_path}/builds"
uid = 12345
gid = 23456
namespaces = ["build-*"]
"""

    async def scenario(address: Path) -> None:
        async with (
            Client(str(address), "default") as everything,
            Client(f"{tmp_path}/watch", "default") as watch,
            Client(f"{tmp_path}/builds", "build-1") as builds,
        ):
            lease = await everything.leases.create()
            assert [one.id for one in await watch.leases.list()] == [lease.id]
            with pytest.raises(PermissionDenied, match="Leases/Delete by the socket watch"):
                await watch.leases.delete(lease.id)
            own = await builds.leases.create()
            await builds.leases.delete(own.id)
            await builds.introspection.version()
            with pytest.raises(PermissionDenied, match="by the socket builds: this socket is for build-"):
                await builds.in_namespace("default").leases.list()
            with pytest.raises(PermissionDenied, match="reaches beyond"):
                await builds.namespaces.list()
            await everything.leases.delete(lease.id)

    with a_target(containerd=False, config=config) as target:
        found = {name: os.stat(tmp_path / name) for name in ("watch", "builds")}
        assert stat.S_IMODE(found["watch"].st_mode) == 0o600
        assert (found["builds"].st_uid, found["builds"].st_gid) == (12345, 23456)
        asyncio.run(scenario(target.address))
