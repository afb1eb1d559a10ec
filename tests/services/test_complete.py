"""No method of the metadata services is left to answer UNIMPLEMENTED."""

from __future__ import annotations

import pytest

from supervisor.api.services.containers.v1 import containers_pb2
from supervisor.api.services.content.v1 import content_pb2
from supervisor.api.services.diff.v1 import diff_pb2
from supervisor.api.services.events.v1 import events_pb2
from supervisor.api.services.images.v1 import images_pb2
from supervisor.api.services.introspection.v1 import introspection_pb2
from supervisor.api.services.leases.v1 import leases_pb2
from supervisor.api.services.mounts.v1 import mounts_pb2
from supervisor.api.services.namespaces.v1 import namespace_pb2
from supervisor.api.services.sandbox.v1 import sandbox_pb2
from supervisor.api.services.snapshots.v1 import snapshots_pb2
from supervisor.api.services.version.v1 import version_pb2
from supervisor.services.containers import Containers
from supervisor.services.content import Content
from supervisor.services.diff import Diff
from supervisor.services.events import Events
from supervisor.services.images import Images
from supervisor.services.introspection import Introspection
from supervisor.services.leases import Leases
from supervisor.services.mounts import Mounts
from supervisor.services.namespaces import Namespaces
from supervisor.services.sandbox_store import SandboxStore
from supervisor.services.snapshots import Snapshots
from supervisor.services.version import Version


@pytest.mark.parametrize(
    ("module", "service", "servicer"),
    [
        (containers_pb2, "Containers", Containers),
        (content_pb2, "Content", Content),
        (diff_pb2, "Diff", Diff),
        (events_pb2, "Events", Events),
        (images_pb2, "Images", Images),
        (introspection_pb2, "Introspection", Introspection),
        (leases_pb2, "Leases", Leases),
        (mounts_pb2, "Mounts", Mounts),
        (namespace_pb2, "Namespaces", Namespaces),
        (sandbox_pb2, "Store", SandboxStore),
        (snapshots_pb2, "Snapshots", Snapshots),
        (version_pb2, "Version", Version),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_method_is_written(module: object, service: str, servicer: type) -> None:
    """Issue 4: what the generated base class answers is UNIMPLEMENTED."""
    methods = module.DESCRIPTOR.services_by_name[service].methods_by_name  # type: ignore[attr-defined]
    assert methods
    assert [name for name in methods if name not in vars(servicer)] == []
