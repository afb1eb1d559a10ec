"""Docker's config.json, credential helpers, and what is given or asked."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from supervisor.errors import InvalidArgument, Unavailable
from supervisor.registry import credential_helper
from supervisor.registry.credentials import Asked, Credential, DockerConfig, FirstOf, Given, parse_user

ALICE = Credential("alice", "pass:word")


def auth(credential=ALICE):
    pair = f"{credential.username}:{credential.secret}"
    return {"auth": base64.b64encode(pair.encode()).decode()}


@pytest.fixture
def config(tmp_path):
    """Writes a config.json and gives the credentials that follow from it."""

    def write(document) -> DockerConfig:
        path = tmp_path / "config.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return DockerConfig(path)

    return write


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Puts a shell script on PATH as a credential helper."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(name: str, script: str) -> None:
        path = tmp_path / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return write


def test_an_entry_is_found_by_its_host(config):
    found = config({"auths": {"r.example:5000": auth()}})
    assert found.for_host("r.example:5000") == ALICE
    assert found.for_host("r.example") is None


def test_an_entry_may_be_a_url(config):
    assert config({"auths": {"https://r.example/v2/": auth()}}).for_host("r.example") == ALICE


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_docker_hub_has_many_names(config, key):
    found = config({"auths": {key: auth()}})
    assert found.for_host("registry-1.docker.io") == ALICE
    assert found.for_host("docker.io") == ALICE
    assert found.for_host("docker.io.example") is None


def test_an_entry_may_hold_tokens_or_plain_words(config):
    entries = {
        "a.example": {**auth(Credential("u", "")), "identitytoken": "id"},
        "b.example": {"registrytoken": "access"},
        "c.example": {"username": "alice", "password": "pass:word"},
        "d.example": {},
    }
    found = config({"auths": entries})
    assert found.for_host("a.example") == Credential("u", "", identity_token="id")
    assert found.for_host("b.example") == Credential(access_token="access")
    assert found.for_host("c.example") == ALICE
    assert found.for_host("d.example") is None


def test_no_file_is_no_credentials(tmp_path):
    assert DockerConfig(tmp_path / "none.json").for_host("r.example") is None


def test_the_file_is_read_for_every_question(config):
    found = config({})
    assert found.for_host("r.example") is None
    config({"auths": {"r.example": auth()}})
    assert found.for_host("r.example") == ALICE


@pytest.mark.parametrize(
    "document",
    ["{", "[]", '{"auths": 5}', '{"auths": {"r.example": {"auth": "%%%"}}}', '{"auths": {"r.example": 7}}'],
)
def test_a_broken_file_is_an_error_that_names_it_and_quotes_nothing(config, document):
    with pytest.raises(InvalidArgument, match=r"config\.json") as caught:
        config(document).for_host("r.example")
    assert "%%%" not in str(caught.value)


def test_a_file_without_an_end_is_not_read_to_it(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b" " * (2 << 20))
    with pytest.raises(InvalidArgument, match="more than 1048576 bytes"):
        DockerConfig(path).for_host("r.example")


def test_a_helper_is_told_the_server_and_asked_what_it_has(config, helper, tmp_path):
    helper("test", f'cat >{tmp_path}/told; echo \'{{"Username": "alice", "Secret": "pass:word"}}\'')
    assert config({"credHelpers": {"r.example": "test"}}).for_host("r.example") == ALICE
    assert Path(tmp_path / "told").read_text() == "r.example"


def test_a_helper_may_hold_an_identity_token(config, helper):
    helper("test", 'echo \'{"Username": "<token>", "Secret": "id"}\'')
    found = config({"credsStore": "test"}).for_host("r.example")
    assert found == Credential(identity_token="id")


def test_the_store_is_asked_for_what_no_entry_has(config, helper, tmp_path):
    helper("test", f'cat >{tmp_path}/told; echo \'{{"Username": "bob", "Secret": "x"}}\'')
    found = config({"credsStore": "test", "auths": {"r.example": auth(), "docker.io": {}}})
    assert found.for_host("r.example") == ALICE
    assert found.for_host("registry-1.docker.io") == Credential("bob", "x")
    assert Path(tmp_path / "told").read_text() == "https://index.docker.io/v1/"


def test_a_helper_that_has_nothing_is_no_error(config, helper):
    helper("test", "echo 'credentials not found in native keychain'; exit 1")
    assert config({"credsStore": "test"}).for_host("r.example") is None


@pytest.mark.parametrize(
    ("script", "about"),
    [
        ("exit 3", "failed with status 3"),
        ("echo nonsense", "not JSON with"),
        ('echo \'{"Username": 5, "Secret": "s3cret"}\'', "not JSON with"),
        ("yes", "says more than"),
        ("sleep 100 & wait", "no answer in time"),
        ("exec >&-; sleep 100", "no end in time"),
    ],
)
def test_a_helper_that_misbehaves_is_an_error_within_its_time(helper, script, about):
    helper("test", script)
    with pytest.raises(Unavailable, match=about) as caught:
        credential_helper.get("test", "r.example", timeout=0.3 if "sleep" in script else 10)
    assert "s3cret" not in str(caught.value)


def test_a_helper_that_is_not_there_is_named():
    with pytest.raises(Unavailable, match=r"docker-credential-nowhere-to-be-found: .*PATH"):
        credential_helper.get("nowhere-to-be-found", "r.example")


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "a b", "-x", "x" * 65])
def test_a_helpers_name_is_no_path(name):
    with pytest.raises(InvalidArgument, match="credential helper"):
        credential_helper.get(name, "r.example")


def test_what_is_given_is_for_its_registry():
    given = Given("docker.io", ALICE)
    assert given.for_host("registry-1.docker.io") == ALICE
    assert given.for_host("mirror.example") is None


def test_the_first_that_knows_is_believed():
    sources = FirstOf((Given("a", ALICE), Asked(lambda host: Credential(host) if host == "b" else None)))
    assert sources.for_host("a") == ALICE
    assert sources.for_host("b") == Credential("b")
    assert sources.for_host("c") is None


def test_a_user_as_people_type_it():
    assert parse_user("alice:pass:word") == ALICE
    for wrong in ("alice", ":x", ""):
        with pytest.raises(InvalidArgument, match="user:password"):
            parse_user(wrong)


def test_nothing_of_a_credential_shows():
    shown = repr(Credential("alice", "s3cret", "id3nt", "acc3ss", "h3ader"))
    assert not any(word in shown for word in ("alice", "s3cret", "id3nt", "acc3ss", "h3ader"))
