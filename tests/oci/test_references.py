import pytest

from supervisor.oci.references import near, normal


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
