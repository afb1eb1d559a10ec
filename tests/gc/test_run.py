"""What a run removes, and what it leaves: contract 11.1 to 11.3, rule by rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.gc.candidate import Kind
from supervisor.metadata import containers, edges, leases
from supervisor.model.identifiers import Namespace
from supervisor.model.lease import Resource
from tests.gc.world import BLUE, FUTURE, PAST, World, digest, labelled

RED = Namespace("red")


def kept(world: World) -> set[str]:
    world.collector.run()
    world.assert_agreed()
    return world.names()


def test_what_nothing_refers_to_goes(world: World) -> None:
    world.blob("b")
    world.snapshot("s")
    world.snapshot("c", committed=True)
    assert kept(world) == set()


def test_an_image_keeps_its_target_and_what_labels_name_on(world: World) -> None:
    world.blob("layer")
    world.blob("manifest", {"ref.content.l.0": digest("layer")})
    world.snapshot("s", committed=True)
    world.blob("config", {"ref.snapshot.native": "s"})
    world.image("i", "manifest", {"ref.content.config": digest("config"), "ref.image.other": "x"})
    world.image("x", "gone", {"expire": PAST})
    world.image("y", "gone", {"expire": PAST})
    assert kept(world) == {"i", "x", digest("layer"), digest("manifest"), digest("config"), "s"}


@pytest.mark.parametrize(("expire", "stays"), [(PAST, False), (FUTURE, True), ("tomorrow", True)])
def test_an_image_that_expired_goes_with_what_it_kept(world: World, expire: str, stays: bool) -> None:
    world.blob("b")
    world.image("i", "b", {"expire": expire})
    assert kept(world) == ({"i", digest("b")} if stays else set())
    assert world.topics().count("/images/delete") == (not stays)


@pytest.mark.parametrize(("expire", "stays"), [(PAST, False), (FUTURE, True), ("tomorrow", True)])
def test_a_lease_that_expired_goes_with_what_it_held(world: World, expire: str, stays: bool) -> None:
    world.lease("l", {"expire": expire})
    world.blob("b", lease="l")
    world.snapshot("s", lease="l")
    world.ingest("w", lease="l")
    assert kept(world) == ({"l", "s", "w", digest("b")} if stays else set())


def test_expire_means_nothing_on_content_and_snapshots(world: World) -> None:
    world.blob("b", {"expire": FUTURE})
    world.snapshot("s", labels={"expire": FUTURE})
    assert kept(world) == set()


@pytest.mark.parametrize("label", ["root", "root.x", "rootish"])
def test_roots(world: World, label: str) -> None:
    world.blob("child")
    world.blob("b", {label: "yes", "ref.content": digest("child")})
    world.snapshot("parent", committed=True)
    world.snapshot("s", "parent", {label: "yes"})
    world.image("i", "child", {label: "yes", "expire": PAST})
    assert kept(world) == {digest("b"), digest("child"), "parent", "s"}


def test_a_container_keeps_its_snapshot_with_parents_and_what_its_labels_name(world: World) -> None:
    world.snapshot("p", committed=True)
    world.snapshot("q", "p", committed=True)
    world.snapshot("s", "q")
    world.blob("b")
    world.container("c", "s", {"ref.content": digest("b")})
    world.blob("image")
    assert kept(world) == {"p", "q", "s", digest("b")}


def test_a_child_keeps_its_parent_and_not_the_other_way(world: World) -> None:
    world.snapshot("p", committed=True)
    world.snapshot("a", "p", committed=True)
    world.snapshot("b", "a", {"root": "x"})
    world.snapshot("other", "p")
    assert kept(world) == {"p", "a", "b"}
    assert world.topics().count("/snapshot/remove") == 1


def test_a_flat_lease_holds_structure_only(world: World) -> None:
    world.blob("deep")
    world.blob("b", {"ref.content": digest("deep")})
    world.blob("target", {"ref.content": digest("deep")})
    world.image("i", "target", {"expire": PAST, "ref.content": digest("deep")})
    world.snapshot("p", labels={"ref.content": digest("deep")}, committed=True)
    world.snapshot("s", "p", {"ref.content": digest("deep")})
    held = [Resource("content", digest("b")), Resource("images", "i"), Resource("snapshots/native", "s")]
    world.lease("l", {"flat": "x"}, held)
    assert kept(world) == {"l", digest("b"), digest("target"), "i", "p", "s"}
    world.blob("deep")
    world.lease("m", {}, held)
    assert kept(world) == {"l", "m", digest("b"), digest("target"), "i", "p", "s", digest("deep")}


def test_back_references(world: World) -> None:
    """Content, snapshots and expired images live as long as what their labels name."""
    world.blob("subject", {"root": "x"})
    world.blob("referrer", {"bref.content.subject": digest("subject")})
    world.blob("of a referrer", {"bref.content": digest("referrer")})
    world.container("c")
    world.snapshot("s", labels={"bref.container": "c"})
    world.image("i", "subject", {"expire": PAST, "bref.snapshot.native/x": "s"})
    world.blob("of nothing", {"bref.content": digest("never"), "bref.image": "never"})
    expected = {"subject", "referrer", "of a referrer"}
    assert kept(world) == {"s", "i", *map(digest, expected)}


def test_a_dead_target_keeps_nothing(world: World) -> None:
    world.blob("subject")
    world.blob("referrer", {"bref.content": digest("subject")})
    assert kept(world) == set()


@pytest.mark.parametrize(
    ("condition", "stays"),
    [
        ("usedat<876000h", True),
        ("usedat>876000h", False),
        ("usedat<1h", False),
        ("usedat<1h,usedat>1h30m", True),
        ("usedat=1h", False),
        ("usedat<=876000h", False),
        ("used<876000h", False),
        ("", False),
    ],
)
def test_conditional_references(world: World, condition: str, stays: bool) -> None:
    world.snapshot("s", labels={"cond.value-usedat": PAST})
    world.blob("b", {"root": "x", "cond.snapshot.native/x": f"{condition}|s"})
    assert kept(world) == ({digest("b"), "s"} if stays else {digest("b")})


def test_conditions_of_an_object_that_goes_and_without_a_value_hold_nothing(world: World) -> None:
    world.snapshot("s", labels={"cond.value-usedat": PAST})
    world.blob("b", {"cond.snapshot.native": "usedat>1h|s"})
    world.snapshot("never used")
    world.image("i", "b", {"cond.snapshot.native": "usedat>1h|never used", "ref.content": digest("x")})
    world.blob("x")
    assert kept(world) == {"i", digest("b"), digest("x"), "s"}


def test_references_do_not_cross_namespaces(world: World) -> None:
    world.blob("b")
    world.blob("b", namespace=RED)
    world.image("i", "b", namespace=RED)
    statistics = world.collector.run()
    assert world.names() == set()
    assert world.names(RED) == {"i", digest("b")}
    assert statistics.removed[Kind.CONTENT] == 1
    assert statistics.size == 0, "the file is the other namespace's still"
    world.assert_agreed()


def test_ingests(world: World) -> None:
    """Contract 6.7: for a day without a lease, as long as it with one."""
    for ref in ("new", "old", "open"):
        world.ingest(ref)
    for ref in ("old", "open"):
        world.age_ingest(ref)
    world.lease("l")
    world.ingest("leased", lease="l")
    writer = world.content.open_ingest(BLUE, "held")
    world.age_ingest("held")
    world.age_ingest("open")
    assert kept(world) == {"new", "l", "leased", "held"}
    writer.close()
    assert kept(world) == {"new", "l", "leased"}


def test_a_shared_ingest_keeps_its_blob(world: World) -> None:
    world.blob("b", {"root": "x"}, namespace=RED)
    world.content.open_ingest(BLUE, "w", expected=digest("b")).close()
    world.blob("unrelated")
    world.collector.run()
    assert world.names() == {"w"}
    world.age_ingest("w")
    world.collector.run()
    assert world.names() == set()
    assert world.files.size(digest("b")) is not None


def test_cycles_go_together(world: World) -> None:
    world.blob("a", {"ref.content": digest("b")})
    world.blob("b", {"ref.content": digest("c"), "ref.content.self": digest("b")})
    world.blob("c", {"ref.content": digest("a"), "ref.snapshot.native": "s"})
    world.snapshot("p", labels={"ref.content": digest("a")}, committed=True)
    world.snapshot("s", "p", {"ref.content": digest("c")})
    assert kept(world) == set()


def test_a_lease_may_name_what_does_not_exist(world: World) -> None:
    resources = [Resource("content", digest("x")), Resource("images", "x"), Resource("snapshots/native", "x")]
    world.lease("l", {}, resources)
    assert kept(world) == {"l"}
    world.blob("x")
    assert kept(world) == {"l", digest("x")}


def test_a_snapshot_in_the_making_is_left_with_its_parent(world: World) -> None:
    seen: list[set[str]] = []

    class Watched(type(world.driver)):  # type: ignore[misc]
        def create(self, layer: object) -> None:
            world.collector.run()
            seen.append(world.names())
            super().create(layer)

    world.snapshot("p", committed=True, labels={"root": "x"})
    world.driver.__class__ = Watched
    world.snapshot("s", "p")
    assert seen == [{"p", "s"}]
    world.driver.__class__ = Watched.__mro__[1]
    assert kept(world) == {"p"}


def test_events(world: World) -> None:
    """Contract 10: of images and snapshots, not of content."""
    world.blob("b")
    world.image("i", "b", {"expire": PAST})
    world.snapshot("s")
    before = len(world.topics())
    world.collector.run()
    assert sorted(world.topics()[before:]) == ["/images/delete", "/snapshot/remove"]


def test_statistics(world: World) -> None:
    world.blob("b")
    world.snapshot("s")
    world.ingest("w")
    world.age_ingest("w")
    done = world.collector.run()
    assert {k: n for k, n in done.removed.items() if n} == {Kind.INGEST: 1, Kind.CONTENT: 1, Kind.SNAPSHOT: 1}
    assert done.size == len(b"the bytes of b") + len(b"half")


@pytest.mark.root
def test_mounts_end_with_the_lease_or_the_object_that_kept_them(world: World, tmp_path: Path) -> None:
    """Contract 11.1: an activation is kept by its lease, its back references, labels, or for itself."""
    source = tmp_path / "source"
    source.mkdir()
    world.lease("l")
    world.container("c", labels={"ref.mount.x": "labelled"})
    back = {"containerd.io/gc.bref.container": "c"}
    for name, labels, lease in (("held", {}, "l"), ("own", {}, None), ("back", back, None)):
        world.mount(name, source, labels, lease)
    world.mount("labelled", source, {}, "l")
    world.collector.run()
    assert world.mounted() == {"held", "own", "back", "labelled"}
    world.database.write(lambda tx: leases.remove(tx, BLUE, "l"))
    plan = world.collector.plan()
    assert [(item.candidate.node.type, item.candidate.node.key) for item in plan.items] == [("mount", "held")]
    assert world.collector.run().removed[Kind.MOUNT] == 1
    assert world.mounted() == {"own", "back", "labelled"}
    world.database.write(lambda tx: containers.remove(tx, BLUE, "c"))
    assert world.collector.run().removed[Kind.MOUNT] == 2
    assert world.mounted() == {"own"}
    world.mounts.deactivate(BLUE, "own")


def test_what_sandboxes_name_stays(world: World) -> None:
    """Contract 11.1: a sandbox is no node, but its labels name roots."""
    world.blob("b")
    world.snapshot("s", labels={"ref.content": digest("b")})
    labels = labelled({"ref.snapshot.native": "s"})
    sandbox = edges.Node(BLUE, edges.SANDBOX, "pod")
    world.database.write(lambda tx: edges.replace(tx, sandbox, edges.label_edges(edges.SANDBOX, labels)))
    assert kept(world) == {"s", digest("b")}
    assert [hop.reason for hop in world.collector.explain(BLUE, "snapshot/native", "s")] == [
        "a sandbox: kept until it is deleted",
        "reference of kind ref",
    ]
    world.database.write(lambda tx: edges.drop(tx, sandbox))
    assert kept(world) == set()
