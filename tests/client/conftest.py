"""A daemon and a way to talk to it through the SDK; `COMPAT_TARGET=containerd` takes containerd."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.client.client import Client
from tests.compat.conftest import a_target
from tests.compat.target import Target
from tests.images import busybox_oci_tar

Scenario = Callable[[Client], Awaitable[Any]]


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """The daemon that the tests of this folder share."""
    with a_target() as target:
        yield target


@pytest.fixture
def sdk(target: Target) -> Callable[[Scenario], Any]:
    """Runs a scenario with a client in a namespace of its own."""
    name = f"sdk-{uuid.uuid4().hex[:8]}"
    target.namespaces.append(name)

    async def run(scenario: Scenario) -> Any:
        async with Client(str(target.address), name) as client:
            return await scenario(client)

    return lambda scenario: asyncio.run(run(scenario))


@pytest.fixture(scope="session")
def image_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ordinary image: gzip layers, one platform."""
    return busybox_oci_tar(tmp_path_factory.mktemp("images") / "busybox.tar")
