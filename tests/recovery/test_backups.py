"""Backups: whole, verified, pruned, and nothing of one that did not come to its end."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.daemon.backing_up import BackupKeeper
from supervisor.daemon.config import Backup as Settings
from supervisor.errors import DataLoss, ResourceExhausted, Unavailable
from supervisor.kernel.files import locked
from supervisor.metadata import images, namespaces
from supervisor.model.identifiers import Namespace
from supervisor.recovery import backups
from supervisor.recovery.backups import SCHEDULED, Backups, faults, reader_of
from tests.compat.program import eventually
from tests.recovery.world import BLUE, PAGE, World


def images_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM images")]


def test_a_backup_is_one_plain_file_with_all_that_was_committed(filled: World) -> None:
    with filled.open() as parts:
        made = Backups(filled.layout.backups).make(parts.database.copy_to, "requested", 3)
        assert images_in(made.path) == ["img"]
        assert set(os.listdir(made.path.parent)) == {"lock", made.path.name}
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert (made.reason, made.size, faults(made.path)) == ("requested", made.path.stat().st_size, [])


def test_a_backup_beside_a_writer_reads_what_is_in_the_log(filled: World, tmp_path: Path) -> None:
    with filled.open() as parts:
        parts.database.write(lambda tx: images.remove(tx, BLUE, "img"))
        backups.write(reader_of(filled.layout.store), tmp_path / "copy", tmp_path / "unfinished")
        assert images_in(tmp_path / "copy") == []
        parts.database.write(lambda tx: namespaces.touch(tx, Namespace("late")))  # the writer goes on


def test_so_many_of_a_reason_are_kept(filled: World) -> None:
    made = [filled.back_up("scheduled", 2).path for _ in range(4)] + [filled.back_up("requested", 2).path]
    assert {one.path for one in Backups(filled.layout.backups).all()} == set(made[2:])


def test_the_newest_good_one_is_found_among_bad_ones(filled: World) -> None:
    good, truncated, newer = (filled.back_up() for _ in range(3))
    truncated.path.write_bytes(truncated.path.read_bytes()[: 3 * PAGE])
    with closing(sqlite3.connect(newer.path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    assert "9999" in faults(newer.path)[0]
    assert Backups(filled.layout.backups).newest_good() == good


def test_a_damaged_store_makes_no_backup_and_loses_none(filled: World) -> None:
    before = filled.back_up()
    size = filled.layout.store.stat().st_size
    filled.overwrite(size // 2, size // 4)
    with pytest.raises(DataLoss, match=r"damaged.*older backups are kept"):
        Backups(filled.layout.backups).make(reader_of(filled.layout.store), "requested", 1)
    assert Backups(filled.layout.backups).all() == [before]
    assert not list(filled.layout.backups.glob(".unfinished*"))


def test_damage_that_copies_without_complaint_is_found_by_the_check_of_the_copy(filled: World) -> None:
    filled.empty_an_index()
    with pytest.raises(DataLoss, match=r"missing from index ix_images.*the store is damaged"):
        Backups(filled.layout.backups).make(reader_of(filled.layout.store), "requested", 1)
    assert Backups(filled.layout.backups).all() == []


def test_two_at_once_are_refused(filled: World) -> None:
    filled.layout.backups.mkdir()
    with locked(filled.layout.backups / "lock"), pytest.raises(Unavailable, match="another backup"):
        filled.back_up()


MAKER = """
import os, signal, sys
from pathlib import Path
from supervisor.recovery.backups import Backups, reader_of
def source(target):
    reader_of(Path(sys.argv[1]))(target)
    os.kill(os.getpid(), signal.SIGKILL)
Backups(Path(sys.argv[2])).make(source, "requested", 3)
"""


def test_one_whose_maker_was_killed_counts_for_nothing_and_goes_with_the_next(filled: World) -> None:
    command = [sys.executable, "-c", MAKER, str(filled.layout.store), str(filled.layout.backups)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert list(filled.layout.backups.glob(".unfinished*"))
    assert Backups(filled.layout.backups).all() == []
    made = filled.back_up()
    assert not list(filled.layout.backups.glob(".unfinished*"))
    assert Backups(filled.layout.backups).newest_good() == made


@pytest.mark.root
def test_a_full_disk_leaves_the_backups_that_there_were(filled: World, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", full], check=True)
    try:
        keeper = Backups(full)
        with pytest.raises(ResourceExhausted, match="free"):
            keeper.make(reader_of(filled.layout.store), "requested", 1)
        assert [path.name for path in full.iterdir()] == ["lock"]
        assert filled.back_up().size  # the store is as it was
    finally:
        subprocess.run(["umount", full], check=True)


def test_the_daemon_makes_one_only_when_something_has_changed(filled: World) -> None:
    with filled.open() as parts:
        keeper = BackupKeeper(parts.database, filled.layout.backups, Settings(3600, 2))
        assert keeper.back_up()
        assert not keeper.back_up()
        parts.database.write(lambda tx: namespaces.touch(tx, Namespace("new")))
        assert keeper.back_up()
        assert [one.reason for one in Backups(filled.layout.backups).all()] == [SCHEDULED] * 2


async def test_the_daemon_backs_up_each_interval_and_ends_at_once(filled: World) -> None:
    made = Backups(filled.layout.backups)
    with filled.open() as parts:
        async with BackupKeeper(parts.database, filled.layout.backups, Settings(0.01, 2)):
            await asyncio.to_thread(eventually, made.all, what="a backup")
        async with BackupKeeper(parts.database, filled.layout.backups, Settings(3600, 2)):
            pass
        async with BackupKeeper(parts.database, filled.layout.backups, Settings(0, 2)) as off:
            assert off._task is None


def test_a_backup_that_fails_is_logged_and_the_daemon_goes_on(
    filled: World, caplog: pytest.LogCaptureFixture
) -> None:
    filled.layout.backups.write_text("in the way")
    with filled.open() as parts:
        keeper = BackupKeeper(parts.database, filled.layout.backups, Settings(3600, 2))
        assert not keeper.back_up()
        assert f"back up the store to {filled.layout.backups}" in caplog.text
        filled.layout.backups.unlink()
        assert keeper.back_up()
