"""Which hosts serve a registry: defaults, `hosts.toml`, Docker's certificate files, proxies."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import InvalidArgument
from supervisor.registry import hosts_file
from supervisor.registry.hosts import EVERYTHING, Capability, Hosts, Trust, is_loopback


@pytest.fixture
def written(tmp_path):
    """Writes a hosts.toml for a registry and gives the endpoints that follow from it."""

    def write(text: str, registry: str = "registry.example", folder: str = ""):
        place = tmp_path / (folder or registry)
        place.mkdir(exist_ok=True)
        (place / "hosts.toml").write_text(text)
        return Hosts(tmp_path).endpoints(registry)

    return write


@pytest.mark.parametrize(
    ("registry", "root", "plain_if_no_tls", "skip_verify"),
    [
        ("docker.io", "https://registry-1.docker.io/v2", False, False),
        ("index.docker.io", "https://registry-1.docker.io/v2", False, False),
        ("registry.example", "https://registry.example/v2", False, False),
        ("registry.example:5000", "https://registry.example:5000/v2", False, False),
        ("localhost:5000", "https://localhost:5000/v2", True, True),
        ("127.0.0.1:5000", "https://127.0.0.1:5000/v2", True, True),
        ("[::1]:5000", "https://[::1]:5000/v2", True, True),
        ("localhost", "https://localhost/v2", False, True),
        ("127.0.0.1:443", "https://127.0.0.1:443/v2", False, True),
        ("127.0.0.1:80", "http://127.0.0.1:80/v2", False, False),
    ],
)
def test_without_configuration(registry, root, plain_if_no_tls, skip_verify):
    (endpoint,) = Hosts().endpoints(registry)
    assert endpoint.root == root
    assert endpoint.capabilities == EVERYTHING
    assert endpoint.plain_if_no_tls == plain_if_no_tls
    assert endpoint.trust.skip_verify == skip_verify
    assert endpoint.stands_for(registry)


def test_the_default_scheme_is_for_what_no_file_tells(written):
    hosts = Hosts(default_scheme="http")
    assert hosts.endpoints("registry.example")[0].root == "http://registry.example/v2"
    assert not hosts.endpoints("localhost:5000")[0].plain_if_no_tls
    with pytest.raises(InvalidArgument, match="http or https"):
        Hosts(default_scheme="ftp").endpoints("registry.example")


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.8.8.8:5000", True),
        ("[::1]", True),
        ("[::1]:443", True),
        ("::1", True),
        ("localhost.example", False),
        ("128.0.0.1", False),
        ("127.0.0.1.example:80", False),
        ("", False),
    ],
)
def test_what_is_this_machine(host, local):
    assert is_loopback(host) is local


def test_mirrors_come_in_the_order_of_the_file_and_the_server_last(written):
    found = written(
        """
        server = "https://upstream.example"
        [host."https://b.example"]
        capabilities = ["pull", "resolve"]
        [host."http://a.example:5000/proxy"]
        capabilities = ["Pull"]
        [host."https://c.example/v2/upstream"]
        override_path = true
        [host."d.example/x/v2/"]
        """
    )
    assert [endpoint.root for endpoint in found] == [
        "https://b.example/v2",
        "http://a.example:5000/proxy/v2",
        "https://c.example/v2/upstream",
        "https://d.example/x/v2",
        "https://upstream.example/v2",
    ]
    assert [endpoint.capabilities for endpoint in found] == [
        Capability.PULL | Capability.RESOLVE,
        Capability.PULL,
        EVERYTHING,
        EVERYTHING,
        EVERYTHING,
    ]
    assert not any(endpoint.stands_for("registry.example") for endpoint in found)


def test_without_a_server_the_registry_itself_is_last(written):
    assert [one.root for one in written('[host."https://m.example"]')] == [
        "https://m.example/v2",
        "https://registry.example/v2",
    ]
    found = written('[host."https://m.example"]', "docker.io")
    assert found[-1].root == "https://registry-1.docker.io/v2"


def test_what_stands_at_the_root_is_for_the_registry_itself(written, tmp_path):
    (found,) = written('ca = "own.pem"\nskip_verify = false\n[header]\nx-a = "1"\n', "localhost:5000")
    assert found.trust == Trust(ca=(tmp_path / "localhost:5000" / "own.pem",))
    assert found.header == (("x-a", "1"),)
    assert "x-a" not in repr(found)


def test_certificates_headers_and_time(written, tmp_path):
    mirror, _ = written(
        """
        [host."https://m.example"]
        ca = ["a.pem", "/etc/b.pem"]
        client = [["c.cert", "c.key"], "both.pem", ["alone.pem", ""]]
        skip_verify = true
        dial_timeout = "1m0.5s"
        [host."https://m.example".header]
        x-one = "1"
        x-two = ["a", "b"]
        """
    )
    folder = tmp_path / "registry.example"
    assert mirror.trust.ca == (folder / "a.pem", Path("/etc/b.pem"))
    assert mirror.trust.client == (
        (folder / "c.cert", folder / "c.key"),
        (folder / "both.pem", None),
        (folder / "alone.pem", None),
    )
    assert mirror.trust.skip_verify
    assert mirror.trust.dial_timeout == 60.5
    assert mirror.header == (("x-one", "1"), ("x-two", "a, b"))
    assert mirror.trust.for_others() == Trust(mirror.trust.ca, (), True, 60.5)


@pytest.mark.parametrize("folder", ["registry.example_5000_", "registry.example:5000", "_default"])
def test_the_folder_of_a_registry_with_a_port(written, folder):
    found = written('server = "https://s.example"', "registry.example:5000", folder)
    assert found[0].host == "s.example"


def test_the_more_exact_folder_counts(written):
    written('server = "https://default.example"', "r:1", "_default")
    written('server = "https://colon.example"', "r:1", "r:1")
    assert written("", "r:1", "r_1_")[0].host == "r:1"
    assert written('server = "https://under.example"', "r:1", "r_1_")[0].host == "under.example"


def test_a_default_for_all_puts_its_mirror_before_each_registry(written):
    found = written('[host."https://m.example"]', "quay.io", "_default")
    assert [one.host for one in found] == ["m.example", "quay.io"]


def test_http_with_certificates_tries_tls_first(written):
    first, _ = written('[host."http://m.example:5000"]\nskip_verify = true')
    assert (first.scheme, first.plain_if_no_tls) == ("https", True)
    first, _ = written('[host."http://m.example:80"]\nskip_verify = true')
    assert (first.scheme, first.plain_if_no_tls) == ("http", False)


def test_an_address_that_only_mirrors_pushes_is_not_for_pulling(written):
    first, last = written('[host."https://m.example"]\ncapabilities = ["push"]')
    assert Capability.PULL not in first.capabilities
    assert last.capabilities == EVERYTHING


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("server =", r"hosts\.toml"),
        ('server = ""\ncapabilities = ["fly"]', "capabilities has 'fly'"),
        ("server = 5", "server must be of type str"),
        ('server = "ftp://x"', "must have the form"),
        ('server = "https://u:p@x"', "must have the form"),
        ('[host."https://m"]\nskip_verify = "yes"', r'host\."https://m"\.skip_verify must be of type bool'),
        ('[host."https://m"]\nca = 5', r"\.ca must be a path"),
        ('[host."https://m"]\nclient = [["a", "b", "c"]]', r"\.client must be"),
        ('[host."https://m"]\ndial_timeout = "soon"', "must be a duration"),
        ('[header]\nx = ["a\\nb"]', r"header\.x must be a line"),
        ('[host."https://m".header]\nx = 1', r"header\.x must be a line"),
        ("host = 3", "host must be of type dict"),
        ('[host]\nm = "x"', r"host\.m must be a table"),
        ('[host.""]\ncapabilities = []', "has no URL"),
    ],
)
def test_a_wrong_file_is_an_error_that_says_where(written, text, about):
    with pytest.raises(InvalidArgument, match=about) as caught:
        written(text)
    assert "hosts.toml: " in str(caught.value)


def test_a_name_that_is_not_known_is_told_and_ignored(written, caplog):
    written('[host."https://m.example"]\ncapabilitys = ["pull"]')
    assert 'host."https://m.example".capabilitys is not known' in caplog.text


def test_dockers_files_stand_in_for_a_missing_hosts_toml(tmp_path):
    folder = tmp_path / "registry.example"
    folder.mkdir()
    for name in ("ca.crt", "other.crt", "a.cert", "a.key", "b.cert", "notes.txt"):
        (folder / name).touch()
    (found,) = Hosts(tmp_path).endpoints("registry.example")
    assert found.trust.ca == (folder / "ca.crt", folder / "other.crt")
    assert found.trust.client == ((folder / "a.cert", folder / "a.key"), (folder / "b.cert", None))


def test_docker_hub_is_where_it_is_whatever_a_file_calls_it(written):
    (found,) = written('server = "https://docker.io"', "docker.io")
    assert found.root == "https://registry-1.docker.io/v2"
    assert found.stands_for("docker.io")


TEXTS = st.sampled_from(["", "https://m.example", "http://[::1", "http://x:99999", "5s", "pull", "a\x00b"])
VALUES = st.recursive(TEXTS | st.booleans() | st.integers(-5, 5), lambda one: st.lists(one, max_size=3))
TABLES = st.dictionaries(
    st.sampled_from([*hosts_file._KNOWN, *hosts_file._ROOT_ONLY, "else"]), VALUES, max_size=5
)


@given(TABLES, st.dictionaries(TEXTS, TABLES, max_size=3))
def test_no_file_is_more_than_an_invalid_argument(root, hosts):
    lines = [f"{key} = {json.dumps(value)}" for key, value in root.items() if not (key == "host" and hosts)]
    for server, table in hosts.items():
        lines.append(f"[host.{json.dumps(server)}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    with suppress(InvalidArgument):
        hosts_file.parse("\n".join(lines), Path("/nowhere"))
