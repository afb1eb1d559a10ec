"""`sctr` against a real daemon, as people use it."""

import hashlib
import json
import signal
import subprocess
import threading

import pytest

from supervisor.model.instant import SECOND, Nanoseconds, format_rfc3339, now
from tests.compat.ctr import eventually
from tests.images import TAG

pytestmark = [pytest.mark.root, pytest.mark.compat]

HUNDRED_MB = 100 << 20


def test_errors_in_json(sctr):
    told = json.loads(sctr.fails("-o", "json", "rm", "nobody"))
    assert told["class"] == "NotFound"
    assert "nobody" in told["error"]


def test_version(sctr):
    assert "server" in sctr.ok("version")
    assert sctr.json("version")["server"]["version"]


def test_images(sctr, image_tar):
    (imported,) = sctr.json("images", "import", str(image_tar))
    assert imported["name"] == TAG
    assert TAG in sctr.ok("images", "ls")
    (row,) = sctr.json("images", "ls")
    assert row["platform"].startswith("linux/")
    assert row["size"] > 1_000_000
    assert "did you mean" in sctr.fails("images", "rm", "busybox-tst")
    assert sctr.json("images", "rm", "--sync", "busybox-test") == {"removed": [TAG]}
    assert sctr.json("images", "ls") == []


def test_import_says_what_is_wrong(sctr, tmp_path):
    assert "no such file" in sctr.fails("images", "import", str(tmp_path / "none.tar"))
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
    assert "bad.tar" in sctr.fails("images", "import", str(tmp_path / "bad.tar"))


@pytest.mark.parametrize("code", [0, 7, 255])
def test_run_answers_the_containers_code(sctr, image, code):
    done = sctr.run("run", "--rm", image, "sh", "-c", f"echo out; echo err >&2; exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"out\n", b"err\n")
    assert sctr.json("ps", "-a") == []


def test_run_gives_what_was_asked_for(sctr, image, tmp_path):
    (tmp_path / "file").write_text("from the host\n")
    tmp_path.chmod(0o755)
    mount = f"type=bind,src={tmp_path},dst=/host,options=rbind:ro"
    script = "id; echo $A $FROM_IMAGE; pwd; cat /host/file; touch /host/x 2>/dev/null || echo read-only"
    told = sctr.ok(
        *(
            "run",
            "--rm",
            "-e",
            "A=b",
            "--mount",
            mount,
            "-u",
            "alice",
            "-w",
            "/tmp",
            image,
            "sh",
            "-c",
            script,
        )
    )
    assert told.splitlines() == [
        "uid=1000(alice) gid=1001(users) groups=10(wheel)",
        "b yes",
        "/tmp",
        "from the host",
        "read-only",
    ]


def test_the_hosts_network(sctr, image):
    own = set(sctr.ok("run", "--rm", image, "ls", "/sys/class/net").split())
    host = set(sctr.ok("run", "--rm", "--net-host", image, "ls", "/sys/class/net").split())
    assert own == {"lo"}
    assert host > own


def test_input_of_any_size_and_none(sctr, image):
    data = bytes(range(256)) * 4000
    assert sctr.run("run", "--rm", "-i", image, "md5sum", stdin=data).stdout.split()[0] == (
        hashlib.md5(data).hexdigest().encode()
    )
    assert sctr.ok("run", "--rm", "-i", image, "wc", "-c", stdin=b"").strip() == "0"
    assert sctr.ok("run", "--rm", image, "wc", "-c", stdin=b"not given").strip() == "0"


def test_a_hundred_megabytes_of_output(sctr, image):
    done = sctr.run("run", "--rm", image, "dd", "if=/dev/zero", "bs=1M", "count=100")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(bytes(HUNDRED_MB)).digest()


@pytest.mark.parametrize(("command", "code"), [("nope", 127), ("/etc", 126)])
def test_what_cannot_be_run(sctr, image, command, code):
    sctr.fails("run", "--rm", image, command, code=code)
    sctr.fails("run", image, command, code=code)
    assert sctr.json("ps", "-a") == []


def test_an_unknown_image_and_a_used_name(sctr, image):
    assert f"did you mean {TAG}" in sctr.fails("run", "--rm", "busybox-text", "true")
    assert sctr.run("run", "--name", "x1", image, "true").returncode == 0
    assert "another name" in sctr.fails("run", "--name", "x1", image, "true")
    (row,) = sctr.json("ps", "-a")
    assert (row["id"], row["status"], row["exit_code"]) == ("x1", "stopped (0)", 0)
    sctr.ok("rm", "x1")


def test_a_detached_container(sctr, image):
    script = "trap 'echo bye; exit 4' TERM; echo started; while :; do sleep 0.05; done"
    started = sctr.json("run", "-d", "--name", "d1", image, "sh", "-c", script)
    assert started["id"] == "d1"
    eventually(lambda: sctr.ok("logs", "d1") == "started\n")
    (row,) = sctr.json("ps")
    assert (row["status"], row["pid"]) == ("running", started["pid"])
    assert "stop it first" in sctr.fails("rm", "d1")

    assert sctr.ok("exec", "-e", "B=c", "d1", "sh", "-c", "echo $B $FROM_IMAGE") == "c yes\n"
    assert sctr.run("exec", "d1", "sh", "-c", "exit 9").returncode == 9
    assert sctr.run("exec", "-i", "d1", "cat", stdin=b"through").stdout == b"through"
    sctr.fails("exec", "d1", "nope", code=127)

    with sctr.running("logs", "-f", "d1", stdout=subprocess.PIPE) as following:
        assert following.stdout.readline() == b"started\n"
        assert sctr.json("stop", "d1") == [{"id": "d1", "exit_code": 4}]
        assert following.stdout.read() == b"bye\n"
        assert following.wait(timeout=20) == 0
    assert "not running" in sctr.fails("exec", "d1", "true")
    assert sctr.json("ps") == []
    sctr.ok("rm", "d1")
    assert "not found" in sctr.fails("logs", "d1")


def test_a_part_of_a_log(sctr, image, tmp_path):
    """By the times that the shim has kept, by lines, and while it goes on."""
    mount = f"type=bind,src={tmp_path},dst=/host"
    wait = "while [ ! -e /host/$1 ]; do sleep 0.05; done"
    script = f"wait() {{ {wait}; }}; echo old 1; echo old 2; wait a; echo new; wait b; echo last; sleep 1000"
    sctr.ok("run", "-d", "--name", "d5", "--mount", mount, image, "sh", "-c", script)
    eventually(lambda: sctr.ok("logs", "d5") == "old 1\nold 2\n")
    old = now()
    eventually(lambda: now() > old + SECOND)  # what the log's times are exact to
    between = format_rfc3339(now())
    (tmp_path / "a").touch()
    eventually(lambda: sctr.ok("logs", "--since", between, "d5") == "new\n")
    assert sctr.ok("logs", "--until", between, "d5") == "old 1\nold 2\n"
    assert sctr.ok("logs", "--since", "1h", "--tail", "2", "d5") == "old 2\nnew\n"
    assert sctr.ok("logs", "-f", "--until", between, "--tail", "1", "d5") == "old 2\n"
    with sctr.running("logs", "--since", between, "--follow", "d5", stdout=subprocess.PIPE) as following:
        assert following.stdout.readline() == b"new\n"
        (tmp_path / "b").touch()
        assert following.stdout.readline() == b"last\n"
    later = format_rfc3339(Nanoseconds(now() + SECOND))
    assert sctr.ok("logs", "-f", "--tail", "1", "--until", later, "d5") == "last\n"
    assert "a span back from now, like 10m" in sctr.fails("logs", "--since", "yesterday", "d5")
    assert "is after --until" in sctr.fails("logs", "--since", "1m", "--until", "2m", "d5")
    assert "--tail -1" in sctr.fails("logs", "--tail", "-1", "d5")
    sctr.ok("rm", "-f", "d5")


def test_stop_kills_what_does_not_listen(sctr, image):
    sctr.ok("run", "-d", "--name", "d2", image, "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    assert sctr.json("stop", "-t", "0.2", "d2")[0]["exit_code"] == 137
    sctr.ok("rm", "d2")


def test_a_log_in_a_folder_with_an_odd_name(sctr, image, tmp_path):
    folder = tmp_path / "a b%41"
    sctr.ok(
        "run", "-d", "--name", "d4", "--log-dir", str(folder), image, "sh", "-c", "echo out; echo err >&2"
    )
    assert sorted(sctr.ok("logs", "-f", "d4").split()) == ["err", "out"]
    assert [path.name for path in folder.rglob("*.log")] == ["d4.log"]
    sctr.ok("rm", "d4")
    assert not folder.exists()


def test_rm_by_force(sctr, image):
    sctr.ok("run", "-d", "--name", "d3", image, "sleep", "1000")
    sctr.ok("rm", "-f", "d3")
    assert sctr.json("ps", "-a") == []


def test_signals_are_handed_on(sctr, image):
    script = "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.05; done"
    with sctr.running("run", "--rm", image, "sh", "-c", script, stdout=subprocess.PIPE) as client:
        assert client.stdout.readline() == b"ready\n"
        client.send_signal(signal.SIGUSR1)
        assert client.stdout.read() == b"got\n"
        assert client.wait(timeout=30) == 5


def test_a_reader_that_leaves_ends_the_container(sctr, image):
    with sctr.running("run", "--rm", image, "yes", stdout=subprocess.PIPE) as client:
        assert client.stdout.readline() == b"y\n"
        client.stdout.close()
        assert client.wait(timeout=60) in (128 + signal.SIGPIPE, 128 + signal.SIGKILL)


def test_ending_a_run_that_is_being_made_leaves_nothing(sctr, image):
    with sctr.running("run", "--rm", image, "sleep", "1000") as client:
        eventually(lambda: sctr.json("ps", "-a"))
        client.send_signal(signal.SIGTERM)
        # In time it is undone; too late it is handed on, and `sleep` as a first process ignores it.
        eventually(lambda: client.poll() is not None or sctr.json("ps"))
        for name in sctr.ok("ps", "-q").split():
            sctr.ok("kill", name)
        assert client.wait(timeout=60) in (130, 137)
    assert sctr.json("ps", "-a") == []


def test_events(sctr, image):
    with sctr.running("events", "-o", "json", stdout=subprocess.PIPE) as client:
        lines = []
        reading = threading.Thread(target=lambda: lines.extend(client.stdout), daemon=True)
        reading.start()
        # Nothing tells that a subscription stands, so something happens until it is heard of.
        eventually(lambda: sctr.run("run", "--rm", image, "true") and any(b"tasks/exit" in x for x in lines))
        client.send_signal(signal.SIGINT)
        assert client.wait(timeout=20) == 130
        reading.join()
    told = [json.loads(line) for line in lines]
    assert {value["namespace"] for value in told} == {sctr.namespace}
    (exited, *_) = (value for value in told if value["topic"] == "/tasks/exit")
    assert exited["event"]["container_id"] == exited["event"]["id"]


def test_twenty_at_once(sctr, image):
    command = sctr.command("run", "--rm", image, "sh", "-c", "echo $$; exit 3")
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(20)]
    assert [client.communicate(timeout=100)[0] for client in clients] == [b"1\n"] * 20
    assert [client.returncode for client in clients] == [3] * 20
    assert sctr.json("ps", "-a") == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("run", "-d", "-t", "x"), "leave out -t"),
        (("run", "--rm", "--mount", "x", "y"), "key=value"),
        (("kill", "-s", "NOPE", "x"), "not known"),
        (("exec", "nobody", "true"), "not found"),
        (("stop", "nobody"), "not found"),
        (("rm", "nobody"), "not found"),
    ],
)
def test_mistakes_are_explained(sctr, words, text):
    assert text in sctr.fails(*words)
