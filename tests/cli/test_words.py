import argparse

import pytest

from supervisor.cli import problems, run_cmd, words
from supervisor.cli.arguments import parser
from supervisor.cli.logs import Reader, remove
from supervisor.client.running import signal_number
from supervisor.errors import InvalidArgument, NotFound, SupervisorError
from supervisor.model.instant import SECOND, now
from supervisor.oci.runtime import SpecMount


def test_mounts_are_read_as_containerds_clients_write_them():
    assert run_cmd.parse_mount("type=bind,src=/a,dst=/b,options=rbind:ro") == SpecMount(
        "/b", "/a", "bind", ("rbind", "ro")
    )
    assert run_cmd.parse_mount("source=/a,target=/b") == SpecMount("/b", "/a", "bind", ("rbind", "rw"))
    assert run_cmd.parse_mount("type=tmpfs,destination=/t") == SpecMount("/t", "tmpfs", "tmpfs", ())


@pytest.mark.parametrize("text", ["", "src", "src=/a", "src=/a,dst=b", "src=/a,dst=/b,size=4"])
def test_bad_mounts_are_explained(text):
    with pytest.raises(InvalidArgument, match="mount"):
        run_cmd.parse_mount(text)


def test_labels():
    assert run_cmd.parse_label("a=b=c") == ("a", "b=c")
    with pytest.raises(InvalidArgument):
        run_cmd.parse_label("a")


@pytest.mark.parametrize(("text", "number"), [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGUSR1", 10)])
def test_signals_have_names_and_numbers(text, number):
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "999", "NOPE", "-1", "²"])
def test_unknown_signals(text):
    with pytest.raises(InvalidArgument):
        signal_number(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('OCI runtime create failed: exec: "x": executable file not found in $PATH', 127),
        ('OCI runtime exec failed: exec: "/x": no such file or directory', 127),
        ('OCI runtime create failed: exec: "/etc": permission denied', 126),
        ('OCI runtime create failed: exec: "/etc": is a directory', 126),
        ("OCI runtime create failed: something else", 125),
        ("open fifo: no such file or directory", 125),
    ],
)
def test_exit_codes_are_dockers(text, code):
    assert problems.start_code(SupervisorError(text)) == code


def test_not_every_error_is_the_programs():
    assert problems.start_code(NotFound("there is no image x")) == 125


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes(count, text):
    assert words.size(count) == text


def test_ages_and_cuts():
    assert words.age(now() - 90 * SECOND) == "1m"
    assert words.age(now() + 90 * SECOND) == "0s"
    assert words.age(None) == "-"
    assert words.cut("a  b\nc") == "a b c"
    assert words.cut("x" * 50) == "x" * 39 + "…"


def test_options_are_understood_before_and_after_the_command():
    for line in (["-o", "json", "--namespace", "n", "ps"], ["ps", "-o", "json", "--namespace", "n"]):
        args = parser().parse_args(line)
        assert (args.output, args.namespace) == ("json", "n")
    assert parser().parse_args(["ps"]).output == "text"


def test_what_follows_the_image_belongs_to_the_container():
    args = parser().parse_args(["run", "--rm", "-e", "A=b", "img", "sh", "-c", "x", "--rm", "-d"])
    assert args.command == ["sh", "-c", "x", "--rm", "-d"]
    assert (args.rm, args.detach, args.env) == (True, False, ["A=b"])


def test_no_command_is_a_usage_error():
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([])
    assert ended.value.code == problems.USAGE


def test_the_environment_names_the_daemon(monkeypatch):
    monkeypatch.setenv("SCTR_ADDRESS", "/x.sock")
    monkeypatch.setenv("SCTR_NAMESPACE", "ns")
    args = parser().parse_args(["ps"])
    assert isinstance(args, argparse.Namespace)
    assert (args.address, args.namespace) == ("/x.sock", "ns")


def test_only_its_own_log_is_removed(tmp_path):
    own = tmp_path / "logs" / "ns" / "c1.log"
    own.parent.mkdir(parents=True)
    for path in (own, tmp_path / "c1.log"):
        path.write_text("x")
    remove("ns", "c1", tmp_path / "c1.log")
    remove("other", "c1", own)
    remove("ns", "c2", own)
    assert own.exists()
    assert (tmp_path / "c1.log").exists()
    for name in ("c1.log.index", "c1.log.1", "c1.log.1.index"):
        (own.parent / name).touch()
    remove("ns", "c1", own)
    assert not (tmp_path / "logs").exists()


def test_a_log_is_read_over_its_rotation(tmp_path):
    """Every byte once, in order, also when it is rotated more than once between two reads."""
    log = tmp_path / "c1.log"

    def rotate():
        for number in range(3, 0, -1):
            old = tmp_path / (f"c1.log.{number - 1}" if number > 1 else "c1.log")
            if old.exists():
                old.rename(tmp_path / f"c1.log.{number}")

    (tmp_path / "c1.log.1").write_bytes(b"1")
    log.write_bytes(b"2")
    reader = Reader(log)
    read = [reader.read(), reader.read(), reader.read()]
    with log.open("ab") as late:
        rotate()
        log.write_bytes(b"4")
        rotate()
        log.write_bytes(b"5")
        late.write(b"3")
    read += [reader.read() for _ in range(4)]
    reader.close()
    assert read == [b"1", b"2", b"", b"3", b"4", b"5", b""]


def test_a_log_that_was_removed(tmp_path):
    with pytest.raises(NotFound, match="somebody removed it"):
        Reader(tmp_path / "c1.log")
