"""What may be done by a socket that is for some calls only."""

from __future__ import annotations

import pytest

from supervisor.errors import InvalidArgument, PermissionDenied
from supervisor.http2.calls import Call
from supervisor.services.scopes import Scope, check

IMAGES = "/containerd.services.images.v1.Images"


def allowed(scope: Scope, method: str, namespace: str = "ci-1") -> bool:
    try:
        scope.admit(Call(method, {"containerd-namespace": namespace} if namespace else {}))
    except PermissionDenied:
        return False
    return True


def test_without_patterns_everything_is_allowed() -> None:
    assert allowed(Scope("all"), f"{IMAGES}/Delete", "")


@pytest.mark.parametrize(
    ("method", "reads"),
    [
        (f"{IMAGES}/Get", True),
        (f"{IMAGES}/List", True),
        (f"{IMAGES}/Delete", False),
        ("/containerd.services.content.v1.Content/Read", True),
        ("/containerd.services.content.v1.Content/Write", False),
        ("/containerd.services.tasks.v1.Tasks/Metrics", True),
        ("/containerd.services.tasks.v1.Tasks/Update", False),
        ("/containerd.services.tasks.v1.Tasks/Exec", False),
        ("/containerd.services.mounts.v1.Mounts/Activate", False),
        ("/containerd.services.transfer.v1.Transfer/Transfer", False),
        ("/supervisor.services.gc.v1.Collector/Run", False),
        ("/grpc.health.v1.Health/Check", True),
    ],
)
def test_read_means_what_changes_nothing(method: str, reads: bool) -> None:
    assert allowed(Scope("reading", methods=("read",)), method) is reads


def test_methods_by_patterns() -> None:
    scope = Scope("images", methods=(f"{IMAGES}/*", "/containerd.services.version.v1.Version/Version"))
    assert allowed(scope, f"{IMAGES}/Create")
    assert not allowed(scope, "/containerd.services.imagesX.v1.Images/Create")
    assert not allowed(scope, "/containerd.services.containers.v1.Containers/Get")


def test_namespaces_by_patterns() -> None:
    scope = Scope("ci", namespaces=("ci-*", "builds"))
    assert allowed(scope, f"{IMAGES}/Delete", "ci-7")
    assert allowed(scope, f"{IMAGES}/Delete", "builds")
    for other in ("default", "CI-7", "xci-7", ""):
        assert not allowed(scope, f"{IMAGES}/Delete", other)
    assert allowed(scope, "/containerd.services.version.v1.Version/Version", "")


@pytest.mark.parametrize(
    "method",
    [
        "/containerd.services.namespaces.v1.Namespaces/List",
        "/containerd.services.events.v1.Events/Subscribe",
        "/supervisor.services.events.v1.Journal/Subscribe",
        "/supervisor.services.gc.v1.Collector/Run",
    ],
)
def test_what_reaches_beyond_namespaces_is_refused_where_they_are_bound(method: str) -> None:
    assert not allowed(Scope("ci", namespaces=("ci-*",)), method, "ci-1")
    assert allowed(Scope("all"), method)


def test_patterns_that_match_nothing_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"sockets\.x\.methods"):
        check(Scope("x", methods=("Images/Get",)))
    check(Scope("x", methods=("read", "*/Get", f"{IMAGES}/*")))
