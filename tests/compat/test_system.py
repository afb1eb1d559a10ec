"""`ctr version`, `plugins`, `namespaces`, `leases`, `events`."""

from __future__ import annotations

import re
import subprocess
from itertools import count, pairwise
from select import select

from tests.compat.ctr import Ctr, eventually

UUID = re.compile(r"UUID: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$", re.MULTILINE)
LIFE = [
    "/snapshot/prepare",
    "/containers/create",
    "/tasks/create",
    "/tasks/start",
    "/tasks/exit",
    "/tasks/delete",
    "/containers/delete",
]


def test_version_names_client_and_server(ctr: Ctr) -> None:
    told = ctr.out("version")
    assert "Client:" in told
    assert re.search(r"Server:\n  Version: +\S+\n", told)
    assert UUID.search(told)


def test_uuid_stays_the_same(ctr: Ctr) -> None:
    assert UUID.findall(ctr.out("version")) == UUID.findall(ctr.out("version"))


def test_plugins_that_clients_look_for_are_ok(ctr: Ctr) -> None:
    status = {(row[0], row[1]): row[-1] for row in ctr.table("plugins", "ls")}
    for plugin in [
        ("io.containerd.content.v1", "content"),
        ("io.containerd.snapshotter.v1", "overlayfs"),
        ("io.containerd.snapshotter.v1", "native"),
        ("io.containerd.differ.v1", "walking"),
        ("io.containerd.runtime.v2", "task"),
        ("io.containerd.grpc.v1", "containers"),
        ("io.containerd.grpc.v1", "tasks"),
    ]:
        assert status.get(plugin) == "ok", plugin


def test_plugins_are_shown_in_detail(ctr: Ctr) -> None:
    told = ctr.out("plugins", "ls", "--detailed", "id==overlayfs")
    assert re.search(r"^Type: +io.containerd.snapshotter.v1$", told, re.MULTILINE)
    assert re.search(r"^Exports: *\n +root +/", told, re.MULTILINE)


def test_namespaces_are_created_labelled_and_removed(ctr: Ctr) -> None:
    name = f"{ctr.namespace}-x"
    ctr.run("namespaces", "create", name, "colour=blue", "size=3")
    assert [name, "colour=blue,size=3"] in ctr.table("namespaces", "ls")
    ctr.run("namespaces", "label", name, "colour=", "shape=round")
    assert [name, "shape=round,size=3"] in ctr.table("namespaces", "ls")
    assert "already exists" in ctr.fails("namespaces", "create", name)
    assert ctr.out("namespaces", "rm", name).strip() == name
    assert name not in ctr.out("namespaces", "ls", "-q").split()


def test_namespace_name_is_checked(ctr: Ctr) -> None:
    assert "invalid argument" in ctr.fails("namespaces", "create", "no spaces")


def test_namespace_in_use_is_not_removed(ctr: Ctr, image: str) -> None:
    assert "images" in ctr.fails("namespaces", "rm", ctr.namespace)
    assert ctr.namespace in ctr.out("namespaces", "ls", "-q").split()


def test_leases_are_created_listed_and_deleted(ctr: Ctr) -> None:
    assert ctr.out("leases", "create", "--id", "mine", "purpose=test").strip() == "mine"
    made = ctr.out("leases", "create").strip()
    listed = {row[0]: row[-1] for row in ctr.table("leases", "ls")}
    assert set(listed) == {"mine", made}
    assert "purpose=test" in listed["mine"]
    assert "containerd.io/gc.expire=" in listed["mine"]
    assert "already exists" in ctr.fails("leases", "create", "--id", "mine")
    ctr.run("leases", "rm", "mine")
    ctr.run("leases", "rm", "--sync", made)
    assert ctr.table("leases", "ls") == []


def test_events_tell_the_life_of_a_container(ctr: Ctr, image: str) -> None:
    with ctr.running("events") as events:
        wait_until_listening(ctr, events)
        ctr.run("run", "--rm", image, "told", "true")
        told = topics_until(events, ctr.namespace, "/containers/delete")
    for earlier, later in pairwise(LIFE):
        assert told.index(earlier) < told.index(later), told
    assert "/snapshot/remove" in told
    assert told.count("/tasks/exit") == 1


def wait_until_listening(ctr: Ctr, events: subprocess.Popen[bytes]) -> None:
    """Make events until the first of them is heard, since a subscription does not say that it began."""
    numbers = count()

    def heard() -> bool:
        ctr.run("namespaces", "label", ctr.namespace, f"number={next(numbers)}")
        return bool(select([events.stdout], [], [], 0.1)[0])

    eventually(heard, what="the first event")


def topics_until(events: subprocess.Popen[bytes], namespace: str, last: str) -> list[str]:
    """The topics of a namespace's events, up to the first of `last`."""
    topics: list[str] = []
    assert events.stdout is not None
    while topics[-1:] != [last]:
        line = events.stdout.readline().decode().split(" ")
        assert line != [""], f"ctr events ended after {topics}"
        if namespace in line:
            topics.append(line[line.index(namespace) + 1])
    return topics
