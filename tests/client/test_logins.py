"""What registries are shown by the command line and by programs."""

from __future__ import annotations

import json

import pytest

from supervisor.client.logins import from_docker, only_for
from supervisor.client.transfers import Login

ALICE = Login("alice", "open sesame")


def test_what_is_given_for_a_registry_is_not_for_its_mirrors():
    assert only_for("registry.example:5000", ALICE, "registry.example:5000") == ALICE
    assert only_for("docker.io", ALICE, "registry-1.docker.io") == ALICE
    assert only_for("docker.io", ALICE, "mirror.example") is None
    assert only_for("registry.example:5000", ALICE, "registry.example") is None


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        ({"username": "alice", "password": "open sesame"}, ALICE),
        ({"identitytoken": "id"}, Login(secret="id")),
        ({"registrytoken": "access"}, Login(header="Bearer access")),
    ],
)
def test_what_docker_login_has_stored(tmp_path, monkeypatch, entry, login):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert from_docker("registry.example") is None
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.example": entry}}))
    assert from_docker("registry.example") == login
