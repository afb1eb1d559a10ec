"""Token logins against docker-registry and a token server."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from supervisor.errors import Unauthenticated
from supervisor.registry.credentials import Credential, Given
from supervisor.registry.pusher import Outcome, Pusher
from supervisor.registry.resolver import resolve
from tests import registries
from tests.registries import PASSWORD, USER, needs_registry
from tests.registry import tokens
from tests.registry.images import fetch, push, reference, session, small_image
from tests.registry.tokens import IDENTITY

pytestmark = [needs_registry, pytest.mark.compat]

IMAGE = small_image()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A registry, its token server, and an image as public/app:1 and private/app:1."""
    with ExitStack() as stack:
        server = stack.enter_context(tokens.serving(tmp_path_factory.mktemp("tokens")))
        folder = tmp_path_factory.mktemp("guarded")
        registry = stack.enter_context(registries.running(folder, tokens=server.auth))
        for repository in ("public/app", "private/app"):
            with session(credentials=alice(registry)) as opened:
                push(opened, reference(registry.host, repository), IMAGE)
        yield registry, server


@pytest.fixture
def registry(guarded):
    return guarded[0]


@pytest.fixture
def server(guarded):
    server = guarded[1]
    server.asked.clear()
    server.knows_post = True
    return server


def alice(registry, **how):
    return Given(registry.host, Credential(**(how or {"username": USER, "secret": PASSWORD})))


def test_what_is_public_needs_no_login(registry, server):
    with session() as opened:
        name = reference(registry.host, "public/app")
        assert resolve(opened, name)[1] == IMAGE.manifest.descriptor
        for layer in IMAGE.layers:
            assert fetch(opened, name, layer.descriptor) == layer.data
    assert [(asked.method, asked.who) for asked in server.asked] == [("GET", "")]
    assert server.asked[0].scopes == ["repository:public/app:pull"]
    assert server.asked[0].service == "tests"


def test_a_password_is_exchanged_once_for_all_that_has_the_same_scope(registry, server):
    with session(credentials=alice(registry)) as opened:
        name = reference(registry.host, "private/app")
        resolve(opened, name)
        for layer in IMAGE.layers:
            assert fetch(opened, name, layer.descriptor) == layer.data
    assert [(asked.method, asked.who) for asked in server.asked] == [("POST", USER)]


def test_a_token_server_that_knows_no_post_is_asked_by_get(registry, server):
    server.knows_post = False
    with session(credentials=alice(registry)) as opened:
        resolve(opened, reference(registry.host, "private/app"))
    assert [(asked.method, asked.who) for asked in server.asked] == [("GET", USER)]


def test_an_identity_token_is_exchanged_too(registry, server):
    with session(credentials=alice(registry, identity_token=IDENTITY)) as opened:
        resolve(opened, reference(registry.host, "private/app"))
    assert [(asked.method, asked.who) for asked in server.asked] == [("POST", USER)]


def test_an_access_token_is_sent_as_it_is(registry, server):
    token = server.token(USER, ["repository:private/app:pull"])
    with session(credentials=alice(registry, access_token=token)) as opened:
        resolve(opened, reference(registry.host, "private/app"))
    assert server.asked == []


def test_a_token_that_the_registry_calls_expired_is_replaced(registry, server):
    server.stale = 1
    with session(credentials=alice(registry)) as opened:
        resolve(opened, reference(registry.host, "private/app"))
    assert len(server.asked) == 2


def test_tokens_that_are_all_expired_end_in_an_error(registry, server):
    server.stale = 100
    try:
        with session(credentials=alice(registry)) as opened, pytest.raises(Unauthenticated):
            resolve(opened, reference(registry.host, "private/app"))
    finally:
        server.stale = 0


@pytest.mark.parametrize("knows_post", [True, False])
def test_a_wrong_password_is_refused_in_the_token_servers_words(registry, server, knows_post):
    server.knows_post = knows_post
    wrong = alice(registry, username=USER, secret="hunter2")
    with (
        session(credentials=wrong) as opened,
        pytest.raises(Unauthenticated, match="wrong password") as caught,
    ):
        resolve(opened, reference(registry.host, "private/app"))
    assert "hunter2" not in str(caught.value)


def test_nobody_in_particular_may_not_see_what_is_private(registry, server):
    with session() as opened, pytest.raises(Unauthenticated, match="log in"):
        resolve(opened, reference(registry.host, "private/app"))


def test_a_mount_asks_for_the_right_to_read_there(registry, server):
    layer = IMAGE.layers[1]
    with session(credentials=alice(registry)) as opened:
        pusher = Pusher(opened, reference(registry.host, "private/other"))
        done = pusher.push(layer.descriptor, layer.opened, mount_from=["private/app"])
    assert done is Outcome.MOUNTED
    assert sorted(server.asked[-1].scopes) == [
        "repository:private/app:pull",
        "repository:private/other:pull,push",
    ]
