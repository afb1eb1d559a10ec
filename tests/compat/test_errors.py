"""What is malformed, missing or in the way is refused with the right code and a text that says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.field_mask_pb2 import FieldMask

from supervisor.api.services.containers.v1 import containers_pb2 as containers
from supervisor.api.services.content.v1 import content_pb2 as content
from supervisor.api.services.diff.v1 import diff_pb2 as diff
from supervisor.api.services.events.v1 import events_pb2 as events
from supervisor.api.services.images.v1 import images_pb2 as images
from supervisor.api.services.leases.v1 import leases_pb2 as leases
from supervisor.api.services.namespaces.v1 import namespace_pb2 as namespaces
from supervisor.api.services.snapshots.v1 import snapshots_pb2 as snapshots
from supervisor.api.services.tasks.v1 import tasks_pb2 as tasks
from supervisor.api.types import descriptor_pb2
from tests.compat.api import Api, connected
from tests.compat.ctr import Ctr
from tests.compat.target import CONTAINERD

Case = tuple[str, Callable[[Api], Any], object, str, str]

DIGEST = f"sha256:{'a' * 64}"
BIG = {"key": "x" * 4096}
SPEC = AnyMessage(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}")
RUNTIME = containers.Container.Runtime(name="io.containerd.runc.v2")
TARGET = descriptor_pb2.Descriptor(media_type="text/plain", digest=DIGEST, size=1)


def container(**more: Any) -> containers.CreateContainerRequest:
    return containers.CreateContainerRequest(
        container=containers.Container(**{"id": "c", "runtime": RUNTIME, "spec": SPEC, **more})
    )


def image(**more: Any) -> images.CreateImageRequest:
    return images.CreateImageRequest(image=images.Image(**{"name": "i", "target": TARGET, **more}))


def mask(*paths: str) -> FieldMask:
    return FieldMask(paths=paths)


CASES: list[Case] = [
    (
        "namespace name",
        lambda a: a.namespaces.Create,
        namespaces.CreateNamespaceRequest(namespace=namespaces.Namespace(name="a b")),
        "INVALID_ARGUMENT",
        "a b",
    ),
    (
        "namespace label",
        lambda a: a.namespaces.Create,
        namespaces.CreateNamespaceRequest(namespace=namespaces.Namespace(name="big-label", labels=BIG)),
        "INVALID_ARGUMENT",
        "label",
    ),
    (
        "namespace missing",
        lambda a: a.namespaces.Delete,
        namespaces.DeleteNamespaceRequest(name="nowhere-at-all"),
        "NOT_FOUND",
        "nowhere-at-all",
    ),
    ("container id", lambda a: a.containers.Create, container(id="-x"), "INVALID_ARGUMENT", "-x"),
    ("container id empty", lambda a: a.containers.Create, container(id=""), "INVALID_ARGUMENT", ""),
    ("container id long", lambda a: a.containers.Create, container(id="x" * 77), "INVALID_ARGUMENT", "76"),
    ("container label", lambda a: a.containers.Create, container(labels=BIG), "INVALID_ARGUMENT", "label"),
    (
        "container runtime",
        lambda a: a.containers.Create,
        container(runtime=None),
        "INVALID_ARGUMENT",
        "untime",
    ),
    (
        "container snapshotter",
        lambda a: a.containers.Create,
        container(snapshot_key="k"),
        "INVALID_ARGUMENT",
        "napshotter",
    ),
    (
        "container missing",
        lambda a: a.containers.Get,
        containers.GetContainerRequest(id="none"),
        "NOT_FOUND",
        "none",
    ),
    (
        "container update missing",
        lambda a: a.containers.Update,
        containers.UpdateContainerRequest(container=containers.Container(id="none")),
        "NOT_FOUND",
        "none",
    ),
    (
        "container delete missing",
        lambda a: a.containers.Delete,
        containers.DeleteContainerRequest(id="none"),
        "NOT_FOUND",
        "none",
    ),
    (
        "container filter",
        lambda a: a.containers.List,
        containers.ListContainersRequest(filters=["id=x"]),
        "INVALID_ARGUMENT",
        "parse error",
    ),
    ("image name", lambda a: a.images.Create, image(name=""), "INVALID_ARGUMENT", "name"),
    (
        "image digest",
        lambda a: a.images.Create,
        image(target=descriptor_pb2.Descriptor(media_type="t", digest="md5:1", size=1)),
        "INVALID_ARGUMENT",
        "digest",
    ),
    (
        "image size",
        lambda a: a.images.Create,
        image(target=descriptor_pb2.Descriptor(media_type="t", digest=DIGEST)),
        "INVALID_ARGUMENT",
        "size",
    ),
    (
        "image type",
        lambda a: a.images.Create,
        image(target=descriptor_pb2.Descriptor(digest=DIGEST, size=1)),
        "INVALID_ARGUMENT",
        "edia",
    ),
    ("image missing", lambda a: a.images.Get, images.GetImageRequest(name="none"), "NOT_FOUND", "none"),
    (
        "image delete missing",
        lambda a: a.images.Delete,
        images.DeleteImageRequest(name="none"),
        "NOT_FOUND",
        "none",
    ),
    (
        "image filter",
        lambda a: a.images.List,
        images.ListImagesRequest(filters=["name~=/x"]),
        "INVALID_ARGUMENT",
        "",
    ),
    (
        "content digest",
        lambda a: a.content.Info,
        content.InfoRequest(digest="sha256:zz"),
        "INVALID_ARGUMENT",
        "sha256:zz",
    ),
    ("content missing", lambda a: a.content.Info, content.InfoRequest(digest=DIGEST), "NOT_FOUND", DIGEST),
    (
        "content read digest",
        lambda a: a.content.Read,
        content.ReadContentRequest(digest="x"),
        "INVALID_ARGUMENT",
        "",
    ),
    (
        "content read missing",
        lambda a: a.content.Read,
        content.ReadContentRequest(digest=DIGEST),
        "NOT_FOUND",
        DIGEST,
    ),
    (
        "content delete missing",
        lambda a: a.content.Delete,
        content.DeleteContentRequest(digest=DIGEST),
        "NOT_FOUND",
        DIGEST,
    ),
    (
        "content status missing",
        lambda a: a.content.Status,
        content.StatusRequest(ref="none"),
        "NOT_FOUND",
        "none",
    ),
    (
        "content abort missing",
        lambda a: a.content.Abort,
        content.AbortRequest(ref="none"),
        "NOT_FOUND",
        "none",
    ),
    (
        "snapshot driver",
        lambda a: a.snapshots.Stat,
        snapshots.StatSnapshotRequest(snapshotter="none", key="k"),
        "INVALID_ARGUMENT",
        "none",
    ),
    (
        "snapshot driver empty",
        lambda a: a.snapshots.Prepare,
        snapshots.PrepareSnapshotRequest(key="k"),
        "INVALID_ARGUMENT",
        "napshotter",
    ),
    (
        "snapshot missing",
        lambda a: a.snapshots.Stat,
        snapshots.StatSnapshotRequest(snapshotter="overlayfs", key="none"),
        "NOT_FOUND",
        "none",
    ),
    (
        "snapshot parent",
        lambda a: a.snapshots.Prepare,
        snapshots.PrepareSnapshotRequest(snapshotter="overlayfs", key="k", parent="none"),
        "NOT_FOUND",
        "none",
    ),
    (
        "snapshot label",
        lambda a: a.snapshots.Prepare,
        snapshots.PrepareSnapshotRequest(snapshotter="overlayfs", key="k", labels=BIG),
        "INVALID_ARGUMENT",
        "label",
    ),
    (
        "snapshot commit",
        lambda a: a.snapshots.Commit,
        snapshots.CommitSnapshotRequest(snapshotter="overlayfs", name="n", key="none"),
        "NOT_FOUND",
        "",
    ),
    (
        "snapshot remove",
        lambda a: a.snapshots.Remove,
        snapshots.RemoveSnapshotRequest(snapshotter="overlayfs", key="none"),
        "NOT_FOUND",
        "none",
    ),
    ("lease missing", lambda a: a.leases.Delete, leases.DeleteRequest(id="none"), "NOT_FOUND", "none"),
    (
        "lease resources of none",
        lambda a: a.leases.ListResources,
        leases.ListResourcesRequest(id="none"),
        "NOT_FOUND",
        "none",
    ),
    ("diff blob", lambda a: a.diff.Apply, diff.ApplyRequest(diff=TARGET), "NOT_FOUND", DIGEST),
    (
        "event topic",
        lambda a: a.events.Publish,
        events.PublishRequest(topic="no/slash", event=SPEC),
        "INVALID_ARGUMENT",
        "no/slash",
    ),
    (
        "task of no container",
        lambda a: a.tasks.Create,
        tasks.CreateTaskRequest(container_id="none"),
        "NOT_FOUND",
        "none",
    ),
    ("task missing", lambda a: a.tasks.Get, tasks.GetRequest(container_id="none"), "NOT_FOUND", "none"),
    ("task start", lambda a: a.tasks.Start, tasks.StartRequest(container_id="none"), "NOT_FOUND", "none"),
    (
        "task kill",
        lambda a: a.tasks.Kill,
        tasks.KillRequest(container_id="none", signal=9),
        "NOT_FOUND",
        "none",
    ),
    (
        "task delete",
        lambda a: a.tasks.Delete,
        tasks.DeleteTaskRequest(container_id="none"),
        "NOT_FOUND",
        "none",
    ),
    ("task wait", lambda a: a.tasks.Wait, tasks.WaitRequest(container_id="none"), "NOT_FOUND", "none"),
    (
        "task pids",
        lambda a: a.tasks.ListPids,
        tasks.ListPidsRequest(container_id="none"),
        "NOT_FOUND",
        "none",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].replace(" ", "-"))
def test_refusals(api: Api, case: Case) -> None:
    _, method, request, code, word = case
    refusal = api.refused(method(api), request)
    assert refusal.code == code, refusal
    assert word.lower() in refusal.text.lower(), refusal
    # The class's words behind each text are a convention that containerd itself keeps nearly always.
    assert CONTAINERD or refusal.text.endswith(code.lower().replace("_", " ")), refusal


def test_no_namespace(ctr: Ctr) -> None:
    with connected(ctr.address, "") as api:
        refusal = api.refused(api.containers.List, containers.ListContainersRequest())
    assert refusal.code == "FAILED_PRECONDITION"
    assert "namespace is required" in refusal.text


def test_malformed_namespace(ctr: Ctr) -> None:
    with connected(ctr.address, "no spaces") as api:
        refusal = api.refused(api.containers.List, containers.ListContainersRequest())
    assert refusal.code == "INVALID_ARGUMENT"
    assert "no spaces" in refusal.text


def test_unknown_lease_attaches_nothing(api: Api) -> None:
    request = snapshots.PrepareSnapshotRequest(snapshotter="overlayfs", key="k")
    refusal = api.refused(api.snapshots.Prepare, request, lease="none")
    assert refusal.code == "NOT_FOUND"
    assert "lease" in refusal.text
    assert (
        api.refused(api.snapshots.Stat, snapshots.StatSnapshotRequest(snapshotter="overlayfs", key="k")).code
        == "NOT_FOUND"
    )


def test_immutable_fields(api: Api) -> None:
    api.call(api.containers.Create, container())
    other = containers.Container(id="c", runtime=containers.Container.Runtime(name="other"), spec=SPEC)
    refusal = api.refused(api.containers.Update, containers.UpdateContainerRequest(container=other))
    assert (refusal.code, "immutable" in refusal.text) == ("INVALID_ARGUMENT", True)
    request = containers.UpdateContainerRequest(container=other, update_mask=mask("runtime"))
    assert api.refused(api.containers.Update, request).code == "INVALID_ARGUMENT"
    api.call(api.containers.Delete, containers.DeleteContainerRequest(id="c"))


def test_second_of_a_name(api: Api) -> None:
    api.call(api.containers.Create, container())
    assert api.refused(api.containers.Create, container()).code == "ALREADY_EXISTS"
    api.call(api.images.Create, image())
    assert api.refused(api.images.Create, image()).code == "ALREADY_EXISTS"
    api.call(api.containers.Delete, containers.DeleteContainerRequest(id="c"))


def test_task_of_a_container_without_one(api: Api) -> None:
    api.call(api.containers.Create, container())
    refusal = api.refused(api.tasks.Get, tasks.GetRequest(container_id="c"))
    assert (refusal.code, "task c" in refusal.text) == ("NOT_FOUND", True)
    api.call(api.containers.Delete, containers.DeleteContainerRequest(id="c"))


def test_exec_is_checked_before_the_shim_sees_it(ctr: Ctr, api: Api, image: str) -> None:
    ctr.run("run", "-d", image, "c", "sleep", "1000")
    process = AnyMessage(type_url="types.containerd.io/opencontainers/runtime-spec/1/Process", value=b"{}")
    for exec_id in ("", "no spaces"):
        request = tasks.ExecProcessRequest(container_id="c", exec_id=exec_id, spec=process)
        assert api.refused(api.tasks.Exec, request).code == "INVALID_ARGUMENT"
    request = tasks.StartRequest(container_id="c", exec_id="none")
    assert api.refused(api.tasks.Start, request).code == "NOT_FOUND"
    ctr.remove("c")


@pytest.mark.skipif(CONTAINERD, reason="containerd crashes")
@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (lambda a: a.namespaces.Create, namespaces.CreateNamespaceRequest()),
        (lambda a: a.containers.Create, containers.CreateContainerRequest()),
        (lambda a: a.containers.Update, containers.UpdateContainerRequest()),
        (lambda a: a.images.Create, images.CreateImageRequest()),
        (lambda a: a.images.Update, images.UpdateImageRequest()),
        (lambda a: a.content.Update, content.UpdateRequest()),
        (lambda a: a.snapshots.Update, snapshots.UpdateSnapshotRequest(snapshotter="overlayfs")),
        (lambda a: a.leases.AddResource, leases.AddResourceRequest(id="none")),
        (lambda a: a.diff.Apply, diff.ApplyRequest()),
        (lambda a: a.events.Forward, events.ForwardRequest()),
    ],
)
def test_requests_that_lack_their_subject(api: Api, method: Callable[[Api], Any], request_: object) -> None:
    assert api.refused(method(api), request_).code in ("INVALID_ARGUMENT", "NOT_FOUND")
