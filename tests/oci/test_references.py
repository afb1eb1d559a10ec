import pytest

from supervisor.errors import InvalidArgument
from supervisor.oci.references import near, normal, parse


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("me/app", "docker.io/me/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("quay.io/a/b", "quay.io/a/b:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("host:5000/a", "host:5000/a:latest"),
        ("host:5000/a:1", "host:5000/a:1"),
        ("busybox@sha256:" + "0" * 64, "docker.io/library/busybox@sha256:" + "0" * 64),
    ],
)
def test_short_names_are_dockers(typed, full):
    assert normal(typed) == full
    assert normal(full) == full


def test_near_names_are_those_that_were_meant():
    known = ["docker.io/library/busybox:latest", "docker.io/library/alpine:3", "quay.io/x/busybox-extra:1"]
    assert near("busybx", known)[0] == "docker.io/library/busybox:latest"
    assert near("busybox:2", known) == ["docker.io/library/busybox:latest", "quay.io/x/busybox-extra:1"]
    assert near("zzz", known) == []


@pytest.mark.parametrize(
    ("name", "host", "repository", "tag", "digest"),
    [
        ("docker.io/library/busybox:1", "docker.io", "library/busybox", "1", None),
        ("host:5000/a/b-c_d.e__f:v1.2-x", "host:5000", "a/b-c_d.e__f", "v1.2-x", None),
        ("[::1]:5000/a", "[::1]:5000", "a", "", None),
        (f"q.io/a@sha256:{'0' * 64}", "q.io", "a", "", f"sha256:{'0' * 64}"),
        (f"q.io/a:1@sha256:{'0' * 64}", "q.io", "a", "1", f"sha256:{'0' * 64}"),
    ],
)
def test_a_name_is_taken_apart(name, host, repository, tag, digest):
    found = parse(name)
    assert (found.host, found.repository, found.tag, found.digest) == (host, repository, tag, digest)
    assert str(found) == name
    assert found.object == (digest or tag)


@pytest.mark.parametrize(
    "name",
    [
        "busybox",
        "/a",
        "host/",
        "host/A",
        "host/a/../b",
        "host/a//b",
        "host/a/",
        "host/a:",
        "host/a:-x",
        "host/a:x/y",
        "host/a?x=y",
        "host/a#b",
        "host/a%2e",
        "host/a b",
        "ho st/a",
        "user@host/a",
        "https://host/a",
        "host:x/a",
        "host/a@sha256:12",
        "host/a@sha256:" + "0" * 64 + "/../x",
        "host/a\n",
        "host/" + "a" * 256,
        "host/a:" + "t" * 129,
    ],
)
def test_a_name_that_could_mean_something_else_in_a_url_is_refused(name):
    with pytest.raises(InvalidArgument):
        parse(name)
