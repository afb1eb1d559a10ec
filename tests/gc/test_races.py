"""Writers beside a run: what comes to be kept between mark and sweep stays whole; no file is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

import pytest

from supervisor.content.store import Info
from supervisor.errors import AlreadyExists, NotFound, SupervisorError
from supervisor.gc import mark
from supervisor.gc.candidate import Candidate
from supervisor.gc.files import Files
from supervisor.gc.sweep import Sweep
from supervisor.metadata import content_reconcile, images, leases
from supervisor.model.instant import EPOCH, now
from supervisor.model.lease import Resource
from tests.gc.world import BLUE, World, digest, labelled


def marked(world: World) -> list[Candidate]:
    return world.database.read(lambda c: mark.unreached(c, now()))


def swept(world: World, found: Sequence[Candidate]) -> None:
    Sweep(world.database, Files(world.content, world.snapshots), found, lambda: False).run()


def image_of(world: World, layers: int) -> None:
    labels = {f"ref.content.l.{n}": digest(f"layer{n}") for n in range(layers)}
    for number in range(layers):
        world.blob(f"layer{number}")
    world.blob("manifest", labels)


def test_what_is_named_after_the_mark_stays_whole(world: World) -> None:
    image_of(world, 20)
    found = marked(world)
    assert len(found) == 21
    world.image("i", "manifest")
    swept(world, found)
    assert len(world.names()) == 22
    world.assert_agreed()


@pytest.mark.parametrize("how", ["lease", "flat lease", "label", "root", "container", "child"])
def test_each_way_of_coming_to_be_kept(world: World, how: str) -> None:
    world.blob("deep")
    world.blob("b", {"ref.content": digest("deep")})
    world.snapshot("p", committed=True)
    world.blob("other", {"root": "x"})
    found = marked(world)
    if how == "lease":
        world.lease("l", {}, [Resource("content", digest("b")), Resource("snapshots/native", "p")])
    elif how == "flat lease":
        world.lease("l", {"flat": "x"}, [Resource("content", digest("b"))])
    elif how == "label":
        labels = {"root": "x", "ref.content": digest("b"), "ref.snapshot.native": "p"}
        world.content.update(BLUE, Info(digest("other"), 0, EPOCH, EPOCH, labelled(labels)))
    elif how == "root":
        labels = {"root": "x", "ref.content": digest("deep")}
        world.content.update(BLUE, Info(digest("b"), 0, EPOCH, EPOCH, labelled(labels)))
    elif how == "container":
        world.container("c", "p", {"ref.content": digest("b")})
    else:
        world.snapshot("s", "p", {"root": "x", "ref.content": digest("b")})
    swept(world, found)
    names = world.names()
    assert digest("b") in names
    assert (digest("deep") in names) == (how != "flat lease")
    assert ("p" in names) == (how not in ("flat lease", "root"))
    world.assert_agreed()


def test_one_of_the_same_name_made_later_is_another(world: World) -> None:
    world.blob("b")
    world.snapshot("s")
    world.lease("l", {"expire": "2001-01-01T00:00:00Z"})
    found = marked(world)
    world.collector.run()
    world.blob("b")
    world.snapshot("s")
    world.lease("l")
    swept(world, found)
    assert world.names() == {"l", "s", digest("b")}


def test_a_leased_writer_beside_runs_never_loses_a_blob(world: World) -> None:
    """Contract 1.3: `AE` attaches too; what a lease holds is there, also if it was garbage just now."""
    world.lease("l")
    ending = threading.Event()
    collecting = threading.Thread(target=lambda: [world.collector.run() for _ in iter(ending.is_set, True)])
    collecting.start()
    try:
        for _ in range(60):
            _write_and_check(world)
    finally:
        ending.set()
        collecting.join()
    world.assert_agreed()


def _write_and_check(world: World) -> None:
    name = f"b{random.randrange(3)}"
    try:
        ingest = world.content.open_ingest(BLUE, f"w-{name}", "l", expected=digest(name))
    except AlreadyExists:
        pass
    else:
        ingest.truncate()
        ingest.append(f"the bytes of {name}".encode())
        try:
            ingest.commit(0, digest(name), {})
        except AlreadyExists:
            pass
        finally:
            ingest.close()
    assert world.content.info(BLUE, digest(name)).size > 0
    resource = Resource("content", digest(name))
    world.database.write(lambda tx: leases.remove_resource(tx, BLUE, "l", resource))


def test_many_writers_beside_runs(world: World) -> None:
    """Images point at whole manifests, as long as these were there when the name was given."""
    errors: list[BaseException] = []
    threads = [threading.Thread(target=_writer, args=(world, number, errors)) for number in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        world.collector.run()
    for thread in threads:
        thread.join()
    assert not errors
    world.collector.run()
    world.assert_agreed()


def _writer(world: World, number: int, errors: list[BaseException]) -> None:
    chosen = random.Random(number)
    try:
        for round_ in range(12):
            _pull(world, f"{number}-{round_ % 3}", chosen)
    except BaseException as error:
        errors.append(error)


def _pull(world: World, name: str, chosen: random.Random) -> None:
    """As a client pulls: a lease, layers, manifest, name; then the lease ends, and perhaps the name."""
    lease = f"lease-{name}-{chosen.random()}"
    world.lease(lease)
    layers = [f"{name}-l{n}" for n in range(3)] + ["shared by all"]
    for layer in layers:
        _store(world, layer, lease)
    _store(world, f"{name}-m", lease, {f"ref.content.{n}": digest(one) for n, one in enumerate(layers)})
    named = f"image-{name}-{chosen.random()}"
    world.image(named, f"{name}-m")
    world.database.write(lambda tx: leases.remove(tx, BLUE, lease))
    for one in (*layers, f"{name}-m"):
        assert world.content.info(BLUE, digest(one)).size > 0
    if chosen.random() < 0.7:
        world.database.write(lambda tx: images.remove(tx, BLUE, named))


def _store(world: World, name: str, lease: str, labels: dict[str, str] | None = None) -> None:
    while True:
        try:
            ingest = world.content.open_ingest(BLUE, f"w-{name}-{lease}", lease, expected=digest(name))
        except AlreadyExists:
            return
        try:
            ingest.truncate()
            ingest.append(f"the bytes of {name}".encode())
            ingest.commit(0, digest(name), labelled(labels or {}))
        except AlreadyExists:
            return
        except (NotFound, SupervisorError) as error:
            if "aborted meanwhile" not in str(error):
                raise
        finally:
            ingest.close()


def test_a_run_that_is_told_to_stop_leaves_the_rest(world: World) -> None:
    for number in range(5):
        world.blob(str(number))
    world.collector.stop()
    world.collector.run()
    assert len(world.names()) == 5


def test_a_file_that_cannot_be_removed_does_not_end_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.blob("a")
    world.blob("b")
    real = world.files.remove

    def refuse(asked: str) -> bool:
        if asked == digest("a"):
            raise SupervisorError("the disk is sulking")
        return real(asked)  # type: ignore[arg-type]

    monkeypatch.setattr(world.files, "remove", refuse)
    assert world.collector.run().size == len(b"the bytes of b")
    assert world.names() == set()


class Killed(BaseException):
    """As if the process had ended there."""


@pytest.mark.parametrize("step", ["content", "snapshot"])
def test_a_crash_between_rows_and_files_is_made_good_at_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The order of durability: rows first, so that no record ever lacks its file."""
    world.blob("kept", {"root": "x"})
    for number in range(3):
        world.blob(f"b{number}")
        world.snapshot(f"s{number}")

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(
        *((world.files, "remove", die) if step == "content" else (world.driver, "remove", die))
    )
    with pytest.raises(Killed):
        world.collector.run()
    monkeypatch.undo()
    assert len(list(world.files.blobs())) + len(world.driver.numbers()) > len(world.names())
    content_reconcile.reconcile(world.content)
    world.snapshots.reconcile()
    world.assert_agreed()
    world.collector.run()
    assert world.names() == {digest("kept")}
    world.assert_agreed()
