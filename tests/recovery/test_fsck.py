"""fsck: damage done by hand, what is said of it, and what a repair makes of it."""

import json
import os
import shutil
from pathlib import Path

import pytest

from supervisor.daemon.command import main
from supervisor.kernel.files import locked
from supervisor.metadata import images
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest, of_bytes
from supervisor.model.image import Image
from supervisor.recovery import fsck
from supervisor.recovery.findings import Report
from tests.metadata.migrating import store_of
from tests.recovery.test_opening import header, spaces, write_and_die
from tests.recovery.world import BLUE, LAYER, LAYER_DIGEST, MANIFEST_DIGEST, PLACE, Parts, World

BEFORE_START = "--repair would set it aside before the daemon's next start removes it"
SETTING = "--repair would set its folder aside and drop its row; "
DROPPING = "--repair would drop its row; "
ADVICE = "pull bad again, or remove it"
AGAIN = "to do: pull its image again, which unpacks it anew"


def check(world: World, *, deep: bool = False) -> Report:
    """A check that changes nothing of the store, which is asserted."""
    before = world.layout.store.read_bytes() if world.layout.store.exists() else None
    report = fsck.check(world.layout, deep=deep)
    assert before is None or world.layout.store.read_bytes() == before
    return report


def repair(world: World, *, deep: bool = False) -> Report:
    return fsck.check(world.layout, deep=deep, repair=True)


def lines(report: Report) -> str:
    return "\n".join(finding.line() for finding in report.findings)


def blob(world: World, digest: Digest) -> Path:
    return world.layout.content / "blobs/sha256" / digest.removeprefix("sha256:")


def keys(parts: Parts) -> list[str]:
    return [info.name for info in parts.snapshots.list(PLACE)]


def test_a_root_in_order_is_clean_and_left_alone(filled: World) -> None:
    report = check(filled, deep=True)
    assert report.findings == []
    assert report.looked_at == {
        "blobs": 2, "records of blobs": 2, "writes under way": 0, "snapshots": 2,
        "images": 1, "containers": 1, "references": 5,
    }  # fmt: skip
    assert repair(filled).findings == []
    assert not filled.layout.aside.exists()
    assert not filled.layout.backups.exists()


def test_a_truncated_blob_is_set_aside_and_the_next_pull_heals_it(filled: World) -> None:
    path = blob(filled, LAYER_DIGEST)
    path.chmod(0o600)
    os.truncate(path, 100)
    expected = f"blob {LAYER_DIGEST} of namespace blue: its file has 100 bytes, not 500"
    assert lines(check(filled)) == f"{expected}; --repair would set the file aside; to do: pull img again"
    report = repair(filled)
    assert lines(report).startswith(f"{expected}; repaired: set aside as {filled.layout.aside}/")
    assert filled.aside()[path.name].read_bytes() == LAYER[:100]
    assert str(path) in filled.notes()
    assert lines(check(filled)).endswith("its file is missing; to do: pull img again")
    with filled.open() as parts:
        assert not parts.content.has(BLUE, LAYER_DIGEST)
        assert keys(parts) == ["c", "layer"]
        parts.put(LAYER)
        assert parts.content.has(BLUE, LAYER_DIGEST)
    assert check(filled, deep=True).findings == []


def test_a_flipped_bit_is_found_by_a_deep_check_only(filled: World) -> None:
    path = blob(filled, LAYER_DIGEST)
    path.chmod(0o600)
    path.write_bytes(b"L" + LAYER[1:])
    assert check(filled).findings == []
    assert "its file has bytes of another digest" in lines(check(filled, deep=True))
    assert "repaired: set aside" in lines(repair(filled, deep=True))
    assert filled.aside()[path.name].read_bytes() == b"L" + LAYER[1:]


def test_what_hangs_on_the_labels_of_a_lost_blob_is_not_collected(filled: World) -> None:
    """The manifest's record is what keeps the unpacked layer."""
    blob(filled, MANIFEST_DIGEST).unlink()
    report = repair(filled)
    assert lines(report) == (
        f"blob {MANIFEST_DIGEST} of namespace blue: its file is missing; to do: pull img again"
    )
    assert report.left == report.findings
    query = "SELECT count(*) FROM edges WHERE source_key = ? AND target_type = 'snapshot/native'"
    with filled.open() as parts:
        held = parts.database.read(lambda c: c.connection.execute(query, (MANIFEST_DIGEST,)).fetchone())
    assert held == (1,)


def test_the_record_of_a_lost_blob_that_nothing_refers_to_is_dropped(filled: World) -> None:
    with filled.open() as parts:
        lonely = parts.put(b"lonely")
    blob(filled, lonely).unlink()
    assert "nothing refers to it; --repair would drop its record" in lines(check(filled))
    assert repair(filled).left == []
    assert check(filled).findings == []


def test_a_file_without_a_record_is_set_aside_before_a_start_removes_it(filled: World) -> None:
    stray = blob(filled, of_bytes(b"stray"))
    stray.write_bytes(b"stray")
    assert f"blob {of_bytes(b'stray')}: no record of it is there" in lines(check(filled))
    assert repair(filled).left == []
    assert filled.aside()[stray.name].read_bytes() == b"stray"
    assert check(filled).findings == []


def test_writes_under_way_without_record_or_bytes(filled: World) -> None:
    with filled.open() as parts:
        for ref in ("with bytes", "without bytes"):
            ingest = parts.content.open_ingest(BLUE, ref)
            ingest.append(b"12345")
            ingest.close()
        shutil.rmtree(parts.content.files.ingest_path("blue/1/without bytes"))
    filled.execute("DELETE FROM ingests WHERE ref = 'with bytes'")
    assert lines(check(filled)).splitlines() == [
        "write under way without bytes of namespace blue: it has no bytes; --repair would drop its record",
        "write under way blue/1/with bytes: no record of it is there; " + BEFORE_START,
    ]
    assert repair(filled).left == []
    assert [path.read_bytes() for path in filled.layout.aside.glob("*/*/data")] == [b"12345"]
    assert check(filled).findings == []


def test_a_layer_that_lost_its_folder_is_unpacked_anew_by_the_next_pull(filled: World) -> None:
    """With all that builds on it and is no container's; today's row would make the pull skip it."""
    with filled.open() as parts:
        parts.layer("lower")
        parts.layer("upper", "lower")
        shutil.rmtree(filled.layout.snapshot("native", parts.number("lower")))
        upper = str(parts.number("upper"))
    assert lines(check(filled)).splitlines() == [
        f'snapshot {upper} "upper" of native in blue: an ancestor of it has lost its folder; '
        + SETTING
        + AGAIN,
        f'snapshot {int(upper) - 1} "lower" of native in blue: its folder is missing; {DROPPING}{AGAIN}',
    ]
    repair(filled)
    assert (filled.aside()[upper] / "fs").is_dir()
    assert check(filled).findings == []
    with filled.open() as parts:
        assert keys(parts) == ["c", "layer"]
        parts.layer("lower")
        parts.layer("upper", "lower")


def test_a_layer_that_a_container_is_on_stays_and_the_container_is_named(filled: World) -> None:
    with filled.open() as parts:
        shutil.rmtree(filled.layout.snapshot("native", parts.number("layer")))
    report = repair(filled)
    assert len(report.left) == 2
    assert 'snapshot 1 "layer" of native in blue: its folder is missing; to do: remove container c' in lines(
        report
    )
    with filled.open() as parts:
        assert keys(parts) == ["c", "layer"]


def test_a_folder_without_a_row_is_set_aside(filled: World) -> None:
    folder = filled.layout.snapshot("native", 77)
    (folder / "fs").mkdir(parents=True)
    (folder / "fs/file").write_text("dear")
    assert "folder of snapshot 77 of native: no row of it is there" in lines(check(filled))
    assert repair(filled).left == []
    assert (filled.aside()["77"] / "fs/file").read_text() == "dear"
    assert check(filled).findings == []


def test_references_that_collection_follows_are_written_anew(filled: World) -> None:
    before = check(filled).looked_at["references"]
    filled.execute(
        "DELETE FROM edges WHERE source_type IN ('image', 'snapshot/native')",
        "INSERT INTO edges VALUES ('blue', 'content', 'x', 'ref', 'content', 'y', '')",
        "INSERT INTO edges VALUES ('blue', 'lease', 'gone', 'lease', 'content', 'y', '')",
    )
    found = lines(check(filled))
    assert "image img of namespace blue: of its references, which collection follows, 1 are missing" in found
    assert "snapshot/native c of namespace blue: of its references, which collection follows, 1 are" in found
    assert "content x of namespace blue: of its references, which collection follows, 1 are too many" in found
    assert "lease gone of namespace blue: it is gone, but 1 references of it are there" in found
    assert repair(filled).left == []
    report = check(filled)
    assert (report.findings, report.looked_at["references"]) == ([], before)


def test_an_image_without_its_target_and_a_container_without_its_snapshot_are_told(filled: World) -> None:
    nowhere = of_bytes(b"nowhere")
    with filled.open() as parts:
        target = Descriptor("type", nowhere, 1, {})
        parts.database.write(lambda tx: images.create(tx, BLUE, Image("bad", target, {}, 0, 0)))
    filled.execute(
        "UPDATE containers SET snapshot_key = 'no'",
        "UPDATE edges SET target_key = 'no' WHERE source_key = 'c' AND source_type = 'container'",
    )
    image, container = lines(repair(filled)).splitlines()
    assert image == f"image bad of namespace blue: its target {nowhere} is not there; to do: {ADVICE}"
    assert container.startswith(
        'container c of namespace blue: its snapshot "no" of native is not there; to do'
    )


def test_what_lacks_in_the_schema_is_made(filled: World) -> None:
    filled.execute("DROP INDEX ix_blobs_digest", "DROP TRIGGER images_labels_insert")
    assert lines(check(filled)).splitlines() == [
        "index ix_blobs_digest: is missing in the store's schema; --repair would make it",
        "trigger images_labels_insert: is missing in the store's schema; --repair would make it",
    ]
    assert repair(filled).left == []
    assert check(filled).findings == []


def test_a_store_whose_index_disagrees_with_its_table_is_repaired(filled: World) -> None:
    filled.empty_an_index()
    found = lines(check(filled))
    assert "missing from index ix_images_namespace_digest_name" in found
    assert repair(filled).left == []
    assert check(filled).findings == []


def test_a_value_that_is_no_json_is_told(filled: World) -> None:
    filled.write_untriggered("UPDATE blobs SET labels = '{\"a' WHERE size = 500")
    report = repair(filled)
    assert lines(report).startswith(
        f"blob {LAYER_DIGEST} of namespace blue: its labels cannot be read, and so the store has been damaged"
    )
    assert "references were not checked" in report.summary()
    assert len(report.left) == 1


def test_a_killed_daemons_log_is_read_and_stays(filled: World) -> None:
    write_and_die(filled)
    log = filled.layout.log.read_bytes()
    assert fsck.check(filled.layout).findings == []
    assert filled.layout.log.read_bytes() == log
    blob(filled, of_bytes(b"stray")).write_bytes(b"stray")
    assert repair(filled).left == []
    with filled.open() as parts:
        assert "late" in spaces(parts)
    assert not list(filled.layout.aside.glob("*/metadata.db*")), "a repair is no loss of the log"


def test_a_lost_log_is_told(filled: World) -> None:
    write_and_die(filled)
    filled.layout.log.unlink()
    assert "metadata.db-wal, which held its newest changes, is missing" in lines(check(filled))
    report = repair(filled)
    assert (report.left, report.findings[0].done) == ([], "it is used as it was")
    assert check(filled).findings == []
    assert filled.layout.replaced.exists()


def test_a_lost_store_is_all_that_can_be_told_and_a_repair_restores_it(filled: World) -> None:
    made = filled.back_up()
    header(filled)
    report = check(filled)
    assert lines(report).endswith(
        "file is not a database; --repair would put a backup in its place, as the daemon's next start would"
    )
    assert f"the newest good backup is {made.path}" in report.summary()
    assert "nothing else could be checked" in report.summary()
    report = repair(filled)
    assert (report.left, report.findings[0].done) == ([], f"restored {made.told()}")
    assert filled.layout.replaced.exists(), "the daemon takes up what is on disk at its next start"
    assert check(filled).findings == []
    with filled.open() as parts:
        assert keys(parts) == ["c", "layer"]


def test_what_the_next_start_takes_up_is_not_set_aside_before(filled: World) -> None:
    filled.back_up()
    with filled.open() as parts:
        late = parts.put(b"late")
    header(filled)
    assert repair(filled).left == []
    assert blob(filled, late).exists()


def test_a_repair_is_preceded_by_a_backup_and_not_made_without_one(filled: World) -> None:
    stray = blob(filled, of_bytes(b"stray"))
    stray.write_bytes(b"stray")
    filled.layout.backups.write_text("in the way")
    report = repair(filled)
    assert "nothing was repaired, since no backup could be made first" in report.summary()
    assert report.left
    assert stray.exists()
    filled.layout.backups.unlink()
    report = repair(filled)
    assert report.left == []
    (made,) = filled.layout.backups.glob("*.db")
    assert f"the store as it was before the repair is in {made}" in report.summary()


@pytest.mark.parametrize("arguments", [[], ["--deep"], ["--json"]])
def test_the_command_is_clean(
    filled: World, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fsck", "--root", str(filled.layout.root), *arguments]) == 0
    assert capsys.readouterr().err == ""


def test_the_command_says_how_it_ended(filled: World, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(filled.layout.root)]
    blob(filled, of_bytes(b"stray")).write_bytes(b"stray")
    assert main(["fsck", *root]) == 4
    told = capsys.readouterr().out.splitlines()
    assert (len(told), told[-1].partition(";")[0]) == (3, "1 found, 0 repaired, 1 left")
    assert main(["fsck", *root, "--repair", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["left"], document["findings"][0]["done"][:9]) == (0, "set aside")
    assert main(["fsck", *root]) == 0
    blob(filled, MANIFEST_DIGEST).unlink()
    assert main(["fsck", *root, "--repair"]) == 4
    assert "to do: pull img again" in capsys.readouterr().out


def test_the_command_says_when_it_could_not_check(
    filled: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fsck", "--root", str(tmp_path / "nowhere")]) == 8
    assert "no such folder; name it with --root" in capsys.readouterr().err
    (tmp_path / "new").mkdir()
    assert main(["fsck", "--root", str(tmp_path / "new")]) == 8
    assert "there is no store" in capsys.readouterr().err
    with locked(filled.layout.root / "lock"):
        assert main(["fsck", "--root", str(filled.layout.root)]) == 8
    told = capsys.readouterr().err
    assert f"is in use (locked by process {os.getpid()}): stop the daemon first, containers run on" in told
    old = tmp_path / "old"
    old.mkdir()
    with store_of(old / "metadata.db", "0004"):
        pass
    assert main(["fsck", "--root", str(old)]) == 8
    assert "start the daemon, which migrates it" in capsys.readouterr().err
