"""Random histories against a model: nothing reachable is ever removed, everything unreachable is.

The model knows nothing of edges: it keeps each object's references as they were asked for and walks
them as contract 11.1 and 11.2 say.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.content.store import Info
from supervisor.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from supervisor.metadata import containers, images, leases
from supervisor.metadata.edges import Node
from supervisor.metadata.snapshot_rows import Place
from supervisor.model.digest import Digest
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import EPOCH
from supervisor.model.lease import Resource
from tests.gc.world import FUTURE, PAST, SNAPSHOT, World, digest, labelled

NAMES = ("a", "b", "c", "d")
KEYS = ("s", "t", "u", "v")
REFUSED = (AlreadyExists, FailedPrecondition, InvalidArgument, NotFound)
ENOUGH = 4
"""Objects that are worth a run: fewer make dull histories."""

COUNTER = itertools.count()

Ref = tuple[str, str, str]
"""Kind, type and name: of a reference that a label makes."""

names, keys = st.sampled_from(NAMES), st.sampled_from(KEYS)
refs = st.one_of(
    st.tuples(st.just("ref"), st.just("content"), names),
    st.tuples(st.just("ref"), st.just(SNAPSHOT), keys),
    st.tuples(st.just("ref"), st.just("image"), names),
    st.tuples(st.just("bref"), st.just("content"), names),
    st.tuples(st.just("bref"), st.just(SNAPSHOT), keys),
    st.tuples(st.just("bref"), st.just("image"), names),
    st.tuples(st.just("bref"), st.just("container"), names),
    st.tuples(st.just("yes"), st.just(SNAPSHOT), keys),
    st.tuples(st.just("no"), st.just(SNAPSHOT), keys),
)
refsets = st.lists(refs, max_size=3, unique=True).map(tuple)
rooted = st.sampled_from((False, False, False, True))
maybe_lease = st.one_of(st.none(), names)


def key_of(type_: str, name: str) -> str:
    return digest(name) if type_ == "content" else name


def labels_of(references: tuple[Ref, ...], *, root: bool = False, expire: str = "") -> dict[str, str]:
    found = {"cond.value-usedat": PAST}
    for number, (kind, type_, name) in enumerate(references):
        target = type_.replace("snapshot/", "snapshot.")
        if kind in ("yes", "no"):
            sign = ">" if kind == "yes" else "<"
            found[f"cond.snapshot.native/{number}"] = f"usedat{sign}1h|{name}"
        else:
            found[f"{kind}.{target}/{number}"] = key_of(type_, name)
    return found | ({"root": "x"} if root else {}) | ({"expire": expire} if expire else {})


@dataclass
class Made:
    """An object as the model knows it."""

    refs: tuple[Ref, ...] = ()
    root: bool = False
    structure: tuple[tuple[str, str], ...] = ()
    expired: bool = False
    flat: bool = False
    holds: set[tuple[str, str]] = field(default_factory=set)


Objects = dict[tuple[str, str], Made]


def reachable(objects: Objects) -> set[tuple[str, str]]:
    """What stays, of type and key; references to what is not there lead on no further but by others' own."""
    seen: set[tuple[str, str, bool]] = set()
    todo = list(_roots(objects))
    while todo:
        state = todo.pop()
        if state not in seen:
            seen.add(state)
            todo.extend(_onwards(objects, *state))
    return {(type_, key) for type_, key, _ in seen}


def _roots(objects: Objects) -> Iterator[tuple[str, str, bool]]:
    for (type_, key), made in objects.items():
        if type_ == "lease" and not made.expired:
            yield type_, key, False
            for held_type, held_key in made.holds:
                yield held_type, held_key, made.flat and held_type != "ingest"
        elif type_ == "container" or made.root or (type_ in ("image", "ingest") and not made.expired):
            yield type_, key, False


def _onwards(objects: Objects, type_: str, key: str, flat: bool) -> Iterator[tuple[str, str, bool]]:
    made = objects.get((type_, key), Made())
    for target in made.structure:
        yield *target, flat
    if flat:
        return
    for kind, target_type, name in made.refs:
        # A condition is about the snapshot that it names: one that is not there has no time to hold for.
        holds = kind == "yes" and type_ in ("content", "image") and (target_type, name) in objects
        if kind == "ref" or holds:
            yield target_type, key_of(target_type, name), False
    for (other_type, other_key), other in objects.items():
        for kind, target_type, name in other.refs:
            if kind == "bref" and (target_type, key_of(target_type, name)) == (type_, key):
                yield other_type, other_key, False


class Histories(RuleBasedStateMachine):
    """One history: its own store, and the model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.opened = World.opened(Path(self.folder.name))
        self.world = self.opened.__enter__()
        self.namespace = Namespace(f"n{next(COUNTER)}")
        self.objects: Objects = {}

    def teardown(self) -> None:
        self.opened.__exit__(None, None, None)
        self.folder.cleanup()

    def attempt(self, work: Callable[[], object]) -> bool:
        with suppress(*REFUSED):
            work()
            return True
        return False

    def hold(self, lease: str | None, type_: str, key: str) -> None:
        if lease is not None and ("lease", lease) in self.objects:
            self.objects["lease", lease].holds.add((type_, key))

    @initialize(blobs=st.tuples(*[refsets] * len(NAMES)), snapshots=st.tuples(*[refsets] * len(KEYS)))
    def begin(self, blobs: tuple[tuple[Ref, ...], ...], snapshots: tuple[tuple[Ref, ...], ...]) -> None:
        """A web of references that nothing keeps yet; and a namespace with the same name of a blob in it."""
        self.world.blob("a", namespace=Namespace("other"))
        for name, references in zip(NAMES, blobs, strict=True):
            self.write_blob(name, references, False, None)
        for key, references in zip(KEYS, snapshots, strict=True):
            self.make_snapshot(key, "", references, False, None, False)

    @rule(name=names, references=refsets, root=rooted, lease=maybe_lease)
    def write_blob(self, name: str, references: tuple[Ref, ...], root: bool, lease: str | None) -> None:
        labels = labels_of(references, root=root)
        existed = ("content", digest(name)) in self.objects
        made = self.attempt(lambda: self.world.blob(name, labels, lease, self.namespace))
        if made:
            self.objects["content", digest(name)] = Made(references, root)
        if made or existed:
            self.hold(lease, "content", digest(name))

    @rule(name=names, references=refsets, root=rooted)
    def label_blob(self, name: str, references: tuple[Ref, ...], root: bool) -> None:
        labels = labelled(labels_of(references, root=root))
        given = Info(digest(name), 0, EPOCH, EPOCH, labels)
        if self.attempt(lambda: self.world.content.update(self.namespace, given)):
            self.objects["content", digest(name)] = Made(references, root)

    @rule(name=names, of=names, references=refsets, expire=st.sampled_from(("", "", PAST, FUTURE)))
    def name_image(self, name: str, of: str, references: tuple[Ref, ...], expire: str) -> None:
        labels = labels_of(references, expire=expire)
        if self.attempt(lambda: self.world.image(name, of, labels, namespace=self.namespace)):
            structure = (("content", digest(of)),)
            self.objects["image", name] = Made(references, False, structure, expire == PAST)

    @rule(
        key=keys,
        parent=st.one_of(st.just(""), keys),
        references=refsets,
        root=rooted,
        lease=maybe_lease,
        committed=st.booleans(),
    )
    def make_snapshot(
        self,
        key: str,
        parent: str,
        references: tuple[Ref, ...],
        root: bool,
        lease: str | None,
        committed: bool,
    ) -> None:
        labels = labels_of(references, root=root)
        existed = (SNAPSHOT, key) in self.objects
        made = self.attempt(
            lambda: self.world.snapshot(
                key,
                parent,
                labels,
                None if committed else lease,
                committed=committed,
                namespace=self.namespace,
            )
        )
        if made:
            structure = ((SNAPSHOT, parent),) if parent else ()
            self.objects[SNAPSHOT, key] = Made(references, root, structure)
        elif committed:
            with suppress(NotFound):  # the first half of it
                self.world.snapshots.remove(Place(self.namespace, "native"), f"{key}-active")
        if not committed and (made or existed):
            self.hold(lease, SNAPSHOT, key)

    @rule(name=names, flat=st.booleans(), expire=st.sampled_from(("", PAST, FUTURE)))
    def make_lease(self, name: str, flat: bool, expire: str) -> None:
        labels = ({"flat": "x"} if flat else {}) | ({"expire": expire} if expire else {})
        if self.attempt(lambda: self.world.lease(name, labels, namespace=self.namespace)):
            self.objects["lease", name] = Made(expired=expire == PAST, flat=flat)

    @rule(name=names, type_=st.sampled_from(("content", "image", SNAPSHOT)), of=names, key=keys)
    def hold_by_lease(self, name: str, type_: str, of: str, key: str) -> None:
        node_key = key if type_ == SNAPSHOT else key_of(type_, of)
        plural = {"content": "content", "image": "images", SNAPSHOT: "snapshots/native"}[type_]
        add = lambda tx: leases.add_resource(tx, self.namespace, name, Resource(plural, node_key))  # noqa: E731
        if self.attempt(lambda: self.world.database.write(add)):
            self.hold(name, type_, node_key)

    @rule(name=names, snapshot=st.one_of(st.just(""), keys), references=refsets)
    def make_container(self, name: str, snapshot: str, references: tuple[Ref, ...]) -> None:
        labels = labels_of(references)
        if self.attempt(lambda: self.world.container(name, snapshot, labels, self.namespace)):
            structure = ((SNAPSHOT, snapshot),) if snapshot else ()
            self.objects["container", name] = Made(references, False, structure)

    @rule(name=names, lease=maybe_lease, old=st.booleans())
    def begin_write(self, name: str, lease: str | None, old: bool) -> None:
        if self.attempt(lambda: self.world.ingest(f"w-{name}", lease, self.namespace)):
            if old:
                self.world.age_ingest(f"w-{name}", self.namespace)
            self.objects["ingest", f"w-{name}"] = Made(expired=old or lease is not None)
            self.hold(lease, "ingest", f"w-{name}")

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def delete_one(self, data: st.DataObject) -> None:
        """Any object, by its own call; a snapshot with children is refused."""
        type_, key = data.draw(st.sampled_from(sorted(self.objects)))
        namespace, database = self.namespace, self.world.database
        calls: dict[str, Callable[[], object]] = {
            "content": lambda: self.world.content.delete(namespace, Digest(key)),
            "image": lambda: database.write(lambda tx: images.remove(tx, namespace, key)),
            "lease": lambda: database.write(lambda tx: leases.remove(tx, namespace, key)),
            "container": lambda: database.write(lambda tx: containers.remove(tx, namespace, key)),
            "ingest": lambda: self.world.content.abort(namespace, key),
            SNAPSHOT: lambda: self.world.snapshots.remove(Place(namespace, "native"), key),
        }
        if self.attempt(calls[type_]):
            del self.objects[type_, key]

    @precondition(lambda self: len(self.objects) >= ENOUGH)
    @rule(planned=st.booleans())
    def collect(self, planned: bool) -> None:
        """The surviving objects are exactly those that the model can reach; a plan says the same before."""
        staying = reachable(self.objects)
        if planned:
            plan = self.world.collector.plan()
            going = {item.candidate.node for item in plan.items if item.candidate.node.namespace != "other"}
            assert {(n.type, n.key) for n in going} == {
                known for known in self.objects if known not in staying and known[0] != "container"
            }
            self.world.collector.run_plan(plan.id)
        else:
            self.world.collector.run()
        self.objects = {known: made for known, made in self.objects.items() if known in staying}
        self.world.assert_agreed()

    @precondition(lambda self: len(self.objects) >= ENOUGH)
    @rule(name=names)
    def explain(self, name: str) -> None:
        """What stays has a path that begins at a root and ends at the object; what goes has none."""
        if ("content", digest(name)) in self.objects:
            hops = self.world.collector.explain(self.namespace, "content", digest(name))
            assert bool(hops) == (("content", digest(name)) in reachable(self.objects))
            assert not hops or hops[-1].node == Node(self.namespace, "content", digest(name))

    @invariant()
    def the_same_objects(self) -> None:
        there = {(n.type, n.key) for n in self.world.objects() if n.namespace == self.namespace}
        assert there == {known for known in self.objects if known[0] != "container"}


Histories.TestCase.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHistories = Histories.TestCase
