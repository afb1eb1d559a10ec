"""What registries are shown, from where Docker keeps it (docker login)."""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.client.transfers import Login
from supervisor.registry.credentials import Credential, DockerConfig, Given


def only_for(registry: str, login: Login, host: str) -> Login | None:
    """`login` for the registry that it was given for, under any of its names; none for its mirrors."""
    return login if Given(registry, Credential()).for_host(host) is not None else None


def from_docker(host: str) -> Login | None:
    """What `docker login` has stored for a host, in DOCKER_CONFIG or ~/.docker; blocks, may run a helper."""
    folder = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    found = DockerConfig(Path(folder) / "config.json").for_host(host)
    if found is None:
        return None
    if found.identity_token:
        return Login(secret=found.identity_token)
    if found.access_token:
        return Login(header=f"Bearer {found.access_token}")
    return Login(found.username, found.secret, found.header)
