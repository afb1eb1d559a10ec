"""Credentials, configured headers and client certificates stay with the host they are for."""

from __future__ import annotations

import base64
import socket
from dataclasses import replace

import pytest

from supervisor.errors import Unauthenticated, Unavailable
from supervisor.oci import references
from supervisor.registry import dialing
from supervisor.registry.credentials import Asked, Credential, Given
from supervisor.registry.fetcher import Fetcher
from supervisor.registry.hosts import Hosts
from supervisor.registry.pusher import Pusher
from supervisor.registry.resolver import resolve
from tests.registry import faults
from tests.registry.images import QUICK, fetch, random_layer, reference, session

SECRET = "open sesame"
BASIC = f"Basic {base64.b64encode(f'alice:{SECRET}'.encode()).decode()}"
LAYER = random_layer(5000)
SERIAL = replace(QUICK, parallel_chunks=1, attempts=2)


@pytest.fixture
def front():
    """A registry of the tests' own, whose answers are the rules."""
    with faults.before() as running:
        yield running


@pytest.fixture
def elsewhere():
    """Another host."""
    with faults.before() as running:
        running.on("*", "", faults.answer(200, LAYER.data))
        yield running


def known_here(host, *more):
    """Look names up without asking anybody."""
    if host.endswith(".example"):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return LOOK_UP(host, *more)


LOOK_UP = socket.getaddrinfo


def alice(host):
    return Given(host, Credential("alice", SECRET))


def wants_login(front):
    """Have the registry ask for a login once, and then do what the next rules say."""
    front.on("*", "", faults.answer(401, WWW_Authenticate='Basic realm="tests"'), times=1)


def test_a_redirect_to_another_host_gets_neither_login_nor_configured_header(front, elsewhere, tmp_path):
    wants_login(front)
    front.on("GET", "", faults.redirect(f"http://{elsewhere.host}/data?signature=s3cret"))
    (tmp_path / front.host).mkdir()
    (tmp_path / front.host / "hosts.toml").write_text(
        f'server = "http://{front.host}"\n[header]\nx-key = "topsecret"\n'
    )
    client_header = {"X-Client": "mine", "Authorization": "Basic bm90OnVzZWQ="}
    with session(
        SERIAL, hosts=Hosts(tmp_path), credentials=alice(front.host), header=client_header
    ) as opened:
        assert fetch(opened, reference(front.host), LAYER.descriptor) == LAYER.data
    assert front.seen[-1].header["authorization"] == BASIC
    assert front.seen[-1].header["x-key"] == "topsecret"
    assert front.seen[-1].header["x-client"] == "mine"
    (seen,) = elsewhere.seen
    assert set(seen.header) <= {"host", "user-agent", "accept", "accept-encoding", "connection", "range"}


def test_another_port_of_the_same_machine_is_another_host(front, elsewhere):
    wants_login(front)
    front.on("GET", "", faults.redirect(f"http://{elsewhere.host}/"))
    with session(SERIAL, credentials=alice(front.host)) as opened:
        fetch(opened, reference(front.host), LAYER.descriptor)
    assert "authorization" not in elsewhere.seen[0].header


def test_a_redirect_at_the_same_host_keeps_the_login(front):
    wants_login(front)
    front.on("GET", "/v2/", faults.redirect("/moved{path}"), times=1)
    front.on("GET", "/moved/", faults.answer(200, LAYER.data))
    with session(SERIAL, credentials=alice(front.host)) as opened:
        fetch(opened, reference(front.host), LAYER.descriptor)
    assert [seen.header.get("authorization") for seen in front.seen] == [None, BASIC, BASIC]


def test_a_host_we_were_sent_to_cannot_ask_for_a_login(front, elsewhere):
    front.on("GET", "", faults.redirect(f"http://{elsewhere.host}/"))
    elsewhere.rules.clear()
    wants_login(elsewhere)
    asked: list[str] = []
    facts = f"sent us to {elsewhere.host}, which wants credentials"
    credentials = Asked(lambda host: asked.append(host))
    with session(SERIAL, credentials=credentials) as opened, pytest.raises(Unauthenticated, match=facts):
        fetch(opened, reference(front.host), LAYER.descriptor)
    assert asked == []


def test_a_redirect_out_of_tls_is_not_followed(front, elsewhere, certificates, tmp_path):
    with faults.before(tls=certificates) as secure:
        secure.on("GET", "", faults.redirect(f"http://{elsewhere.host}/"))
        (tmp_path / secure.host).mkdir()
        (tmp_path / secure.host / "hosts.toml").write_text(f'ca = "{certificates.ca}"\n')
        facts = f"sends us to {elsewhere.host} without TLS"
        with session(SERIAL, hosts=Hosts(tmp_path)) as opened, pytest.raises(Unavailable, match=facts):
            fetch(opened, reference(secure.host), LAYER.descriptor)
    assert elsewhere.seen == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://[::1", "gopher:x"])
def test_a_redirect_to_what_is_no_web_address_is_not_followed(front, target):
    front.on("GET", "", faults.redirect(target))
    with session(SERIAL) as opened, pytest.raises(Unavailable, match="no URL of http"):
        fetch(opened, reference(front.host), LAYER.descriptor)


@pytest.mark.parametrize("realm", ["http://[::1", "http://x:99999/", "file:///etc/passwd", "http://a:b@x/"])
def test_a_token_server_that_is_no_web_address_is_not_asked(front, realm):
    front.on("*", "", faults.answer(401, WWW_Authenticate=f'Bearer realm="{realm}"'))
    with session(SERIAL) as opened, pytest.raises(Unauthenticated, match="no URL of http"):
        resolve(opened, reference(front.host))


def test_redirects_in_a_circle_end(front):
    front.on("GET", "", faults.redirect("/again"))
    with session(SERIAL) as opened, pytest.raises(Unavailable, match="redirects more than 5 times"):
        fetch(opened, reference(front.host), LAYER.descriptor)


def test_errors_and_texts_hold_no_secret(front):
    front.on("GET", "", faults.redirect("http://127.0.0.1:1/data?signature=s3cret"))
    with session(SERIAL, credentials=alice(front.host)) as opened, pytest.raises(Unavailable) as caught:
        fetch(opened, reference(front.host), LAYER.descriptor)
    assert "s3cret" not in str(caught.value)
    assert SECRET not in repr(alice(front.host))


def test_an_upload_that_goes_to_another_host_gets_no_login(front, elsewhere):
    wants_login(front)
    front.on("HEAD", "", faults.answer(404))
    front.on("POST", "", faults.answer(202, Location=f"http://{elsewhere.host}/put?id=1"))
    elsewhere.rules.clear()
    elsewhere.on("PUT", "", faults.answer(201))
    with session(SERIAL, credentials=alice(front.host)) as opened:
        Pusher(opened, reference(front.host)).push(LAYER.descriptor, LAYER.opened)
    (seen,) = elsewhere.seen
    assert "authorization" not in seen.header
    assert seen.received == len(LAYER.data)
    assert seen.path == f"/put?id=1&digest={LAYER.descriptor.digest.replace(':', '%3A')}"


def test_urls_in_a_manifest_are_asked_last_and_without_a_login(front, elsewhere):
    wants_login(front)
    front.on("GET", "", faults.answer(404))
    foreign = replace(LAYER.descriptor, urls=("file:///etc/passwd", f"http://{elsewhere.host}/layer"))
    with session(SERIAL, credentials=alice(front.host), header={"Authorization": "Basic eA=="}) as opened:
        assert fetch(opened, reference(front.host), foreign) == LAYER.data
    assert [seen.path for seen in elsewhere.seen] == ["/layer"]
    assert "authorization" not in elsewhere.seen[0].header


def test_urls_in_a_manifest_cannot_ask_for_a_login(front, elsewhere):
    front.on("GET", "", faults.answer(404))
    elsewhere.rules.clear()
    elsewhere.on("GET", "", faults.answer(401, WWW_Authenticate='Basic realm="x"'))
    foreign = replace(LAYER.descriptor, urls=(f"http://{elsewhere.host}/layer",))
    asked: list[str] = []
    credentials = Asked(lambda host: asked.append(host))
    with session(SERIAL, credentials=credentials) as opened, pytest.raises(Unauthenticated):
        Fetcher(opened, reference(front.host)).read(foreign)
    assert asked == []
    assert len(elsewhere.seen) == 1


def test_a_clients_login_in_a_header_is_for_the_registry_and_not_for_its_mirror(front, elsewhere, tmp_path):
    registry = "registry.example"
    (tmp_path / registry).mkdir()
    (tmp_path / registry / "hosts.toml").write_text(
        f'server = "http://{front.host}"\n[host."http://{elsewhere.host}"]\ncapabilities = ["pull"]\n'
    )
    with session(SERIAL, hosts=Hosts(tmp_path), header={"Authorization": BASIC, "X-Plain": "y"}) as opened:
        fetch(opened, reference(registry), LAYER.descriptor)
    assert "authorization" not in elsewhere.seen[0].header
    assert elsewhere.seen[0].header["x-plain"] == "y"


def test_a_token_server_without_tls_is_not_asked_for_a_registry_with_it(certificates, tmp_path):
    challenge = 'Bearer realm="http://tokens.example/token",service="x"'
    with faults.before(tls=certificates) as secure:
        secure.on("*", "", faults.answer(401, WWW_Authenticate=challenge))
        (tmp_path / secure.host).mkdir()
        (tmp_path / secure.host / "hosts.toml").write_text(f'ca = "{certificates.ca}"\n')
        opened = session(SERIAL, hosts=Hosts(tmp_path), credentials=alice(secure.host))
        with opened, pytest.raises(Unauthenticated, match=r"token server without TLS, tokens\.example"):
            resolve(opened, reference(secure.host))


def test_a_proxy_from_the_environment_is_used_but_not_for_this_machine(
    front, elsewhere, monkeypatch, tmp_path
):
    monkeypatch.setenv("http_proxy", f"http://{elsewhere.host}")
    monkeypatch.setenv("NO_PROXY", "direct.example")
    monkeypatch.setattr(dialing.socket, "getaddrinfo", known_here)
    front.on("GET", "", faults.answer(200, LAYER.data))
    with session(SERIAL) as opened:
        fetch(opened, reference(front.host), LAYER.descriptor)
    assert elsewhere.seen == []
    with session(SERIAL, hosts=Hosts(default_scheme="http")) as opened:
        fetch(opened, references.parse("registry.example:5000/a/b:1"), LAYER.descriptor)
        with pytest.raises(Unavailable, match="its name is not known"):
            fetch(opened, references.parse("direct.example:1/a/b:1"), LAYER.descriptor)
    (seen,) = elsewhere.seen
    assert seen.path == f"http://registry.example:5000/v2/a/b/blobs/{LAYER.descriptor.digest}"


def test_tls_goes_through_a_proxy_and_what_is_for_the_proxy_stays_there(certificates, monkeypatch, tmp_path):
    (tmp_path / "registry.example").mkdir()
    (tmp_path / "registry.example/hosts.toml").write_text("skip_verify = true\n")
    with faults.before(tls=certificates) as secure, faults.before(secure.host) as proxy:
        secure.on("GET", "", faults.answer(200, LAYER.data))
        monkeypatch.setenv("HTTPS_PROXY", f"http://bob:hunter2@{proxy.host}")
        with session(SERIAL, hosts=Hosts(tmp_path)) as opened:
            assert fetch(opened, reference("registry.example"), LAYER.descriptor) == LAYER.data
        assert [seen.path for seen in proxy.seen] == ["registry.example:443"]
        assert proxy.seen[0].header["proxy-authorization"].startswith("Basic ")
        assert "proxy-authorization" not in secure.seen[0].header
