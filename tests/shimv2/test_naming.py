"""Runtime names: contract tasks 2.1."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from supervisor.errors import InvalidArgument, SupervisorError
from supervisor.shimv2.naming import binary_name, is_own, shim_path, speaks_runc_options


@pytest.mark.parametrize(
    ("runtime", "binary"),
    [
        ("io.containerd.runc.v2", "containerd-shim-runc-v2"),
        ("io.foo.bar.baz.v9", "containerd-shim-baz-v9"),
        ("a.b", "containerd-shim-a-b"),
    ],
)
def test_binary_name(runtime: str, binary: str) -> None:
    assert binary_name(runtime) == binary


@pytest.mark.parametrize("runtime", ["runc", ".x.y", "a..b", "a.b.", "x/containerd.runc.v2"])
def test_names_that_cannot_be(runtime: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid runtime name"):
        binary_name(runtime)


def test_our_own_shim_is_the_default() -> None:
    own = Path(sys.executable).with_name("containerd-shim-oci-v2")
    assert shim_path("io.containerd.oci.v2", {}) == shim_path("io.containerd.runc.v2", {}) == own
    assert is_own(own)
    assert speaks_runc_options(own)


def test_the_configuration_decides() -> None:
    assert shim_path("io.containerd.runc.v2", {"io.containerd.runc.v2": "/bin/true"}) == Path("/bin/true")
    mapped = {"io.x.y.v1": "io.containerd.oci.v2"}
    assert is_own(shim_path("io.x.y.v1", mapped))


def test_what_is_not_there() -> None:
    with pytest.raises(InvalidArgument, match="no runtime name"):
        shim_path("", {})
    with pytest.raises(SupervisorError, match="invalid custom binary path: stat /no/such"):
        shim_path("/no/such", {})
    with pytest.raises(SupervisorError, match=r'runtime "io.x.none.v1" binary not installed'):
        shim_path("io.x.none.v1", {})
