"""The store is destroyed under a daemon whose containers run: they run on, and the next daemon has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat.ctr import Ctr, eventually
from tests.compat.target import CONTAINERD, Target
from tests.compat.test_restart import started_at

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(CONTAINERD, reason="containerd does not start without its database"),
]


def command(target: Target, *words: str) -> subprocess.CompletedProcess[str]:
    """`container-supervisor WORDS --root ROOT`."""
    program = [f"{sys.prefix}/bin/container-supervisor", *words, "--root", str(target.root)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def back_up(target: Target) -> str:
    """A backup, made while the daemon runs; its path."""
    answer = command(target, "backup")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.rstrip().endswith("verified")
    return answer.stdout.split()[0]


def destroy(target: Target) -> None:
    """Write over the store's first pages, and take the log away."""
    target.kill()
    with (target.root / "metadata.db").open("r+b") as store:
        store.write(os.urandom(8192))
    (target.root / "metadata.db-wal").unlink()


def alive(ctr: Ctr, container: str, identity: tuple[int, str]) -> bool:
    """Whether a container's process is the one it was."""
    return ctr.status(container) == "RUNNING" and (ctr.pid(container), started_at(identity[0])) == identity


def test_containers_run_on_when_the_store_is_restored(
    own_target: Target, own_ctr: Ctr, own_image: str, request: pytest.FixtureRequest
) -> None:
    own_ctr.run("run", "-d", own_image, "old", "sleep", "1000")
    own_ctr.run("run", "-d", own_image, "again", "sleep", "1000")
    own_ctr.run("run", "-d", own_image, "gone", "true")
    backup = back_up(own_target)
    own_ctr.remove("again")
    own_ctr.run("run", "-d", own_image, "again", "sleep", "1000")
    own_ctr.run("run", "-d", own_image, "new", "sleep", "1000")
    identities = {
        name: (own_ctr.pid(name), started_at(own_ctr.pid(name))) for name in ("old", "again", "new")
    }
    own_target.news()
    destroy(own_target)
    own_target.start()
    told = own_target.news()
    assert f"restored {backup}" in told
    assert (
        f"task {own_ctr.namespace}/new runs and was not known; it and its container have a row again" in told
    )
    for name, identity in identities.items():
        assert alive(own_ctr, name, identity), name
        assert own_ctr.out("tasks", "exec", "--exec-id", f"x-{name}", name, "echo", "in") == "in\n"
    assert {row[0] for row in own_ctr.table("containers", "ls")} == {"old", "again", "new", "gone"}
    own_target.kill()
    own_target.start()
    for name, identity in identities.items():
        assert alive(own_ctr, name, identity), name
    for name in (*identities, "gone"):
        own_ctr.remove(name)
    assert own_ctr.table("tasks", "ls") == []


def test_containers_run_on_when_there_is_no_backup(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    own_ctr.run("run", "-d", own_image, "c", "sh", "-c", "echo mine > /file; sleep 1000")
    identity = (own_ctr.pid("c"), started_at(own_ctr.pid("c")))
    own_target.news()
    destroy(own_target)
    own_target.start()
    assert "there is no good backup: a new store begins" in own_target.news()
    assert alive(own_ctr, "c", identity)
    assert own_ctr.out("tasks", "exec", "--exec-id", "x", "c", "cat", "/file") == "mine\n"
    own_ctr.remove("c")
    set_aside = (own_target.root / "set-aside").glob("*/*/fs/file")
    assert [path.read_text() for path in set_aside] == ["mine\n"]


def test_a_task_that_the_backup_saw_half_made_runs_on(
    own_target: Target, own_ctr: Ctr, own_image: str
) -> None:
    """By such a row a start would undo the task."""
    own_ctr.run("run", "-d", own_image, "c", "sleep", "1000")
    identity = (own_ctr.pid("c"), started_at(own_ctr.pid("c")))
    backup = Path(back_up(own_target))
    for state in ("creating", "deleting"):
        change = f"UPDATE tasks SET state = '{state}', shim_address = ''"
        subprocess.run([sys.executable, "-c", CHANGE, backup, change], check=True)
        destroy(own_target)
        own_target.start()
        assert alive(own_ctr, "c", identity)
    own_ctr.remove("c")


CHANGE = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"


def test_a_pull_after_the_loss_needs_no_bytes_and_works(
    own_target: Target, own_ctr: Ctr, own_image: str, image_tar: Path
) -> None:
    destroy(own_target)
    own_target.start()
    assert own_ctr.table("images", "ls") == []
    own_ctr.run("images", "import", str(image_tar))
    assert own_ctr.out("run", "--rm", own_image, "c", "echo", "again") == "again\n"
    own_target.stop()
    answer = command(own_target, "fsck", "--deep")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    own_target.start()


def test_the_commands_and_a_daemon_that_runs(own_target: Target, own_ctr: Ctr, own_image: str) -> None:
    refused = command(own_target, "fsck")
    assert refused.returncode == 8
    assert "is in use" in refused.stderr
    assert "stop the daemon first" in refused.stderr
    backup = back_up(own_target)
    refused = command(own_target, "backup", "--restore", backup)
    assert (refused.returncode, "stop the daemon first" in refused.stderr) == (1, True)
    listed = command(own_target, "backup", "--list").stdout
    assert backup in listed
    assert listed.rstrip().endswith("good")
    own_ctr.run("images", "rm", own_image)
    assert own_target.stop() == 0
    restored = command(own_target, "backup", "--restore", backup)
    assert restored.returncode == 0, restored.stderr
    own_target.start()
    assert [row[0] for row in own_ctr.table("images", "ls")] == [own_image]
    eventually(lambda: not (own_target.root / "metadata.replaced").exists(), what="all taken up")
