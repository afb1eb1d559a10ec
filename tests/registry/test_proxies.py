"""Which requests go through a proxy."""

from __future__ import annotations

import pytest

from supervisor.registry.proxies import Proxies, from_environment

PROXY = "http://proxy.example:3128"


def test_each_scheme_has_its_proxy():
    found = from_environment({"HTTP_PROXY": PROXY, "https_proxy": "user:secret@other.example:1"})
    assert found.for_url("http://r.example/v2/") == PROXY
    assert found.for_url("https://r.example/v2/") == "http://user:secret@other.example:1"
    assert "secret" not in repr(found)
    assert from_environment({}).for_url("http://r.example/") == ""


@pytest.mark.parametrize("url", ["http://localhost:5000/", "http://127.0.0.1/", "http://[::1]:5000/"])
def test_this_machine_is_behind_none(url):
    assert Proxies(PROXY, PROXY).for_url(url) == ""


@pytest.mark.parametrize(
    ("entry", "direct", "through"),
    [
        ("r.example", ["http://r.example/", "https://a.r.example:5/"], ["http://xr.example/"]),
        (".r.example", ["http://a.r.example/"], ["http://r.example/"]),
        ("*.r.example", ["http://a.b.r.example/"], ["http://r.example/"]),
        ("r.example:5000", ["http://r.example:5000/"], ["http://r.example/"]),
        ("r.example:443", ["https://r.example/"], ["http://r.example/"]),
        ("10.1.2.3", ["http://10.1.2.3:5000/"], ["http://10.1.2.4/"]),
        ("10.0.0.0/8", ["http://10.9.9.9:5000/"], ["http://11.0.0.1/", "http://ten.example/"]),
        ("fd00::/8", ["http://[fd00::1]:5000/"], ["http://[fe00::1]/"]),
        ("nonsense/x", [], ["http://10.0.0.1/"]),
        ("*", ["http://r.example/", "https://10.0.0.1/"], []),
    ],
)
def test_hosts_that_are_asked_directly(entry, direct, through):
    names = {"http_proxy": PROXY, "https_proxy": PROXY, "NO_PROXY": f" x.y , {entry.upper()}"}
    found = from_environment(names)
    assert [found.for_url(url) for url in direct] == [""] * len(direct)
    assert [found.for_url(url) for url in through] == [PROXY] * len(through)
