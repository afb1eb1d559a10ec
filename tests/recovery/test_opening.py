"""A store that is damaged in some way, and what the next start makes of it."""

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from supervisor.errors import DataLoss, FailedPrecondition, ResourceExhausted
from supervisor.metadata import events, images, leases, namespaces
from supervisor.model.digest import of_bytes
from supervisor.model.identifiers import Namespace
from supervisor.recovery import damage, opening
from supervisor.recovery.backups import Backups
from supervisor.recovery.taking_up import RECOVERED
from supervisor.snapshots.snapshotter import Info
from tests.metadata.migrating import store_of
from tests.recovery.world import BLUE, LAYER_DIGEST, MANIFEST_DIGEST, PAGE, PLACE, Parts, World

Damage = Callable[[World], None]


def names(parts: Parts) -> list[str]:
    return [image.name for image in parts.database.read(lambda c: images.find(c, BLUE))]


def keys(parts: Parts) -> list[str]:
    found: list[Info] = parts.snapshots.list(PLACE)
    return [info.name for info in found]


def header(world: World) -> None:
    world.overwrite(0, 100)


def first_page(world: World) -> None:
    world.overwrite(0, PAGE)


def middle(world: World) -> None:
    size = world.layout.store.stat().st_size
    world.overwrite(PAGE * (size // PAGE // 4), size // 2)


def cut(world: World) -> None:
    os.truncate(world.layout.store, 5 * PAGE)


def cut_to_rubbish(world: World) -> None:
    os.truncate(world.layout.store, 50)


def emptied(world: World) -> None:
    os.truncate(world.layout.store, 0)


def removed(world: World) -> None:
    world.layout.store.unlink()


ALL = [header, first_page, middle, cut, cut_to_rubbish, emptied, removed]


@pytest.mark.parametrize("damaging", ALL)
def test_the_newest_good_backup_takes_a_damaged_stores_place(
    filled: World, damaging: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    filled.back_up()
    newest = filled.back_up()
    with filled.open() as parts:
        parts.put(b"late")
        parts.layer("late")
        number = parts.number("late")
    damaging(filled)
    with filled.open() as parts:
        assert names(parts) == ["img"]
        assert keys(parts) == ["c", "layer"]
        assert parts.content.has(BLUE, LAYER_DIGEST)
        # What came since has no row to be known by, but is there.
        assert parts.content.has(RECOVERED, of_bytes(b"late"))
        assert set(filled.aside()) >= {str(number)}
        parts.layer("next")
        assert parts.number("next") > number, "a number that was given out came back"
    assert ("metadata.db" in filled.aside()) == (damaging is not removed)
    assert f"restored {newest.path}" in caplog.text
    assert "is lost: it is" in caplog.text
    assert not filled.layout.replaced.exists()


@pytest.mark.parametrize("damaging", ALL)
def test_without_a_backup_a_new_store_begins_and_keeps_what_is_on_disk(
    filled: World, damaging: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    damaging(filled)
    with filled.open() as parts:
        assert names(parts) == []
        assert parts.content.has(RECOVERED, LAYER_DIGEST)
        assert parts.content.has(RECOVERED, MANIFEST_DIGEST)
        (lease,) = parts.database.read(lambda c: leases.find(c, RECOVERED))
        held = parts.database.read(lambda c: leases.resources(c, RECOVERED, lease.id))
        assert {one.id for one in held} == {LAYER_DIGEST, MANIFEST_DIGEST}
        assert "containerd.io/gc.expire" in lease.labels
        parts.layer("layer")  # a pull can unpack it anew
    assert len([name for name in filled.aside() if name.isdecimal()]) == 2
    assert "no good backup: a new store begins" in caplog.text
    assert "snapshot 1 of native, of which the store knows nothing" in filled.notes()


def test_a_pull_into_another_namespace_needs_no_bytes_of_what_was_taken_up(filled: World) -> None:
    removed(filled)
    with filled.open() as parts:
        ingest = parts.content.open_ingest(BLUE, "again", expected=LAYER_DIGEST)
        assert ingest.status().offset == 500
        assert ingest.commit(500, LAYER_DIGEST, {}) == LAYER_DIGEST


def test_a_blob_that_is_not_its_digest_is_not_taken_up(filled: World) -> None:
    path = filled.layout.content / "blobs/sha256" / LAYER_DIGEST.removeprefix("sha256:")
    path.chmod(0o600)
    path.write_bytes(b"x" * 500)
    removed(filled)
    with filled.open() as parts:
        assert not parts.content.has(RECOVERED, LAYER_DIGEST)
        assert parts.content.has(RECOVERED, MANIFEST_DIGEST)
    assert filled.aside()[path.name].read_bytes() == b"x" * 500


def test_a_write_under_way_goes_on(filled: World) -> None:
    with filled.open() as parts:
        ingest = parts.content.open_ingest(BLUE, "a/ref", total=10)
        ingest.append(b"12345")
        ingest.close()
    removed(filled)
    with filled.open() as parts:
        again = parts.content.open_ingest(BLUE, "a/ref", total=10)
        assert again.status().offset == 5
        again.append(b"67890")
        assert again.commit(10, of_bytes(b"1234567890"), {}) == of_bytes(b"1234567890")


def test_a_new_root_is_a_new_store_and_nothing_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with world.open() as parts:
        assert names(parts) == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert not world.layout.aside.exists()


def test_a_start_after_a_kill_keeps_everything(filled: World) -> None:
    with filled.open(killed=True):
        pass
    filled.layout.log.touch()
    with filled.open() as parts:
        assert (names(parts), keys(parts)) == (["img"], ["c", "layer"])
    assert not filled.layout.aside.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from supervisor.metadata import namespaces
from supervisor.recovery import opening
from supervisor.recovery.layout import Layout
database = opening.open_store(Layout(Path(sys.argv[1])))
database.write(lambda tx: namespaces.touch(tx, "late"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def write_and_die(world: World) -> None:
    """A daemon that is killed: what it wrote is in the log only."""
    command = [sys.executable, "-c", KILLED, str(world.layout.root)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert world.layout.log.stat().st_size
    assert world.layout.opened.exists()


def spaces(parts: Parts) -> list[str]:
    return [name for name, _ in parts.database.read(namespaces.all_labels)]


def test_a_killed_daemons_log_is_not_lost(filled: World) -> None:
    write_and_die(filled)
    with filled.open() as parts:
        assert "late" in spaces(parts)


def test_a_lost_log_is_noticed_and_nothing_is_collected_for_it(
    filled: World, caplog: pytest.LogCaptureFixture
) -> None:
    filled.back_up()
    with filled.open() as parts:
        parts.put(b"second")
    write_and_die(filled)
    filled.layout.log.unlink()
    stray = filled.layout.content / "blobs/sha256" / of_bytes(b"stray").removeprefix("sha256:")
    stray.write_bytes(b"stray")
    with filled.open() as parts:
        assert "late" not in spaces(parts)
        assert parts.content.has(BLUE, of_bytes(b"second")), "the backup, which is older, was taken"
        assert parts.content.has(RECOVERED, of_bytes(b"stray"))
    assert "metadata.db-wal, which held its newest changes, is missing" in caplog.text
    assert "no backup is newer" in caplog.text


def test_a_backup_that_is_newer_than_a_store_without_its_log_is_taken(filled: World) -> None:
    shutil.copy(filled.layout.store, filled.layout.root / "older")
    with filled.open() as parts:
        parts.put(b"second")
    filled.back_up()
    (filled.layout.root / "older").rename(filled.layout.store)
    filled.layout.opened.touch()
    with filled.open() as parts:
        assert parts.content.has(BLUE, of_bytes(b"second"))


def test_a_start_that_is_cut_off_is_gone_on_with(filled: World) -> None:
    filled.back_up()
    with filled.open() as parts:
        parts.put(b"late")
    header(filled)
    opening.close_store(filled.layout, opening.open_store(filled.layout))
    assert filled.layout.replaced.exists()
    with filled.open() as parts:
        assert parts.content.has(RECOVERED, of_bytes(b"late"))
    assert not filled.layout.replaced.exists()


@pytest.mark.root
def test_a_disk_without_room_for_the_backup_loses_nothing_and_says_so(world: World) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", world.layout.root], check=True)
    try:
        with world.open() as parts:
            parts.image()
        made = world.back_up()
        header(world)
        filler = world.layout.root / "filler"
        room = os.statvfs(world.layout.root)
        filler.write_bytes(b"x" * (room.f_bavail - 8) * room.f_bsize)
        with pytest.raises(ResourceExhausted, match=rf"restore {made.path}.*free some space"), world.open():
            pass
        filler.unlink()
        with world.open() as parts:
            assert names(parts) == ["img"]
    finally:
        subprocess.run(["umount", world.layout.root], check=True)


def test_a_follower_of_events_learns_that_it_missed_some(filled: World) -> None:
    filled.back_up()
    with filled.open() as parts:
        cursor = parts.database.read(events.last_sequence)
    header(filled)
    with filled.open() as parts:
        newest = parts.database.read(events.last_sequence)
        assert newest > cursor + 100_000
        parts.database.write(lambda tx: events.trim(tx, 100_000))
        with pytest.raises(Exception, match="not kept any more"):
            parts.database.read(lambda c: events.after(c, cursor - 1))


def test_damage_that_is_found_while_it_serves_says_what_to_do(filled: World) -> None:
    with filled.open() as parts:
        for i in range(300):
            parts.database.write(lambda tx, i=i: namespaces.create(tx, Namespace(f"n{i}"), {"l": "x" * 3000}))
    size = filled.layout.store.stat().st_size
    with filled.open() as parts:
        filled.overwrite(PAGE * 40, size - PAGE * 40)
        with pytest.raises(DataLoss, match=r"restart the daemon.*container-supervisor fsck"):
            parts.database.read(namespaces.all_labels)


def test_a_store_of_a_newer_version_is_refused_and_not_replaced(filled: World) -> None:
    filled.back_up()
    filled.execute("UPDATE alembic_version SET version_num = '9999'")
    before = filled.layout.store.read_bytes()
    with pytest.raises(FailedPrecondition, match=r"newer version.*backup --list"), filled.open():
        pass
    assert filled.layout.store.read_bytes() == before
    assert not filled.layout.aside.exists()


def test_whatever_is_written_over_the_header_is_taken_for_damage_or_for_a_whole_store(filled: World) -> None:
    """No byte of it makes the look itself fail."""
    whole = filled.layout.store.read_bytes()
    copy = filled.layout.root / "copy"
    chance = random.Random(7)
    for offset in range(100):
        copy.write_bytes(whole[:offset] + bytes([chance.randrange(256)]) + whole[offset + 1 :])
        damage.found_in(copy)


def test_an_administrators_choice_takes_the_stores_place(filled: World) -> None:
    chosen = filled.back_up()
    with filled.open() as parts:
        parts.put(b"late")
    filled.back_up()
    aside = opening.restore(filled.layout, chosen.path)
    assert aside == next(iter(filled.aside().values())).parent
    with filled.open() as parts:
        assert not parts.content.has(BLUE, of_bytes(b"late"))
        assert parts.content.has(RECOVERED, of_bytes(b"late"))
    bad = filled.layout.root / "bad"
    bad.write_bytes(b"no store" * 1000)
    with pytest.raises(DataLoss, match="no good backup"):
        opening.restore(filled.layout, bad)


def test_a_migration_is_preceded_by_a_backup(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with store_of(world.layout.store, "0004") as old:
        old.execute("INSERT INTO namespaces (name, labels) VALUES ('old', '{}')")
    caplog.set_level(logging.INFO)
    with world.open() as parts:
        assert spaces(parts) == ["old"]
    (made,) = Backups(world.layout.backups).all()
    assert (made.reason, damage.revision(made.path)) == ("schema-0004", "0004")
    assert f"migrated from schema 0004; as it was, it is in {made.path}" in caplog.text
    header(world)  # and the backup of the old schema is good enough
    with world.open() as parts:
        assert spaces(parts) == ["old"]


def test_a_migration_without_room_for_a_backup_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with store_of(world.layout.store, "0004"):
        pass
    world.layout.backups.write_text("in the way")
    with world.open() as parts:
        assert spaces(parts) == []
    assert "migrated without a backup of it: back up the store" in caplog.text


def test_backups_are_made_of_what_was_restored(filled: World) -> None:
    filled.back_up()
    header(filled)
    again = filled.back_up()
    assert Backups(filled.layout.backups).newest_good() == again
