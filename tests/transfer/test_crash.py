"""The daemon killed during pulls: nothing is damaged, nothing dangles, and the next pull goes on.

`make crash` kills it a hundred times.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
import time

import pytest

from supervisor.client.client import Client
from supervisor.client.unpacking import is_unpacked
from tests.compat.conftest import a_target
from tests.compat.target import Target
from tests.registries import Registry, needs_registry
from tests.registry.images import push, reference, session
from tests.transfer.layers import MIB, large_image

pytestmark = [pytest.mark.compat, pytest.mark.root, pytest.mark.slow, needs_registry]

TIMES = 100 if os.environ.get("CRASH") == "long" else 5
SLOW = "\n[registry]\nbandwidth = 12000000.0\nparallel_layers = 2\n"
"""An image of 8 MiB takes two thirds of a second."""


@pytest.mark.timeout(120 + TIMES * 15)
def test_a_killed_daemon_goes_on_where_it_was(registry: Registry) -> None:
    chance = random.Random(2026)
    resumed = 0
    with a_target(containerd=False, config=SLOW) as target:
        for number in range(TIMES):
            place = str(reference(registry.host, f"crash/{number}"))
            with session() as opened:
                push(opened, reference(registry.host, f"crash/{number}"), large_image(f"image-{number}"))
            with subprocess.Popen(
                [f"{sys.prefix}/bin/sctr", "--address", str(target.address), "images", "pull", place],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as pulling:
                time.sleep(chance.uniform(0.25, 1.0))
                target.kill()
                pulling.wait(30)
            target.start()
            resumed += asyncio.run(_looked_at(target, place))
    assert resumed > TIMES // 4, f"only {resumed} of {TIMES} pulls had anything to go on from"


async def _looked_at(target: Target, place: str) -> bool:
    """Check the store, and pull to the end; whether there was something to go on from."""
    async with Client(str(target.address)) as client:
        for info in await client.content.list():
            running = hashlib.sha256()
            async for piece in client.content.read(info.digest):
                running.update(piece)
            assert f"sha256:{running.hexdigest()}" == info.digest
        assert [one.name for one in await client.snapshots().list() if one.name.startswith("extract-")] == []
        there = {info.digest: info.size for info in await client.content.list()}
        partial = {one.ref: one.offset for one in await client.content.ingests()}
        told = []
        await client.transfers.pull(place, report=told.append)
        image = await client.images.get(place)
        assert await is_unpacked(client, image)
        for one in told:
            if one.event == "downloading" and one.name in partial:
                assert one.progress >= partial[one.name], "it began anew"
            assert one.event != "downloading" or one.name.partition("-")[2] not in there, "fetched twice"
        assert sum(partial.values()) < 9 * MIB
        await client.images.delete(image.name, sync=True)
        return bool(partial or there)
