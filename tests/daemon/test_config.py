import tomllib
from pathlib import Path

import pytest

from supervisor.daemon import config
from supervisor.diff.limits import Limits
from supervisor.errors import InvalidArgument


def test_the_defaults_survive_being_written_and_read() -> None:
    assert config.parse(tomllib.loads(config.dump(config.Config()))) == config.Config()


def test_settings_of_a_file_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'root = "/r"\n[timeouts]\ntask_state = 3\n[runtime.shims]\n"io.containerd.runc.v2" = "/bin/shim"\n'
    )
    loaded = config.load(file)
    assert loaded.root == "/r"
    assert loaded.timeouts.task_state == 3.0
    assert loaded.runtime.shims == {"io.containerd.runc.v2": "/bin/shim"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rot = '/r'", "rot is not known; did you mean root"),
        ("[grpc]\nadress = '/r'", "grpc.adress is not known; did you mean grpc.address"),
        ("root = 1", "root must be of type string"),
        ("[grpc]\nuid = true", "grpc.uid must be of type integer"),
        ("[grpc]\nuid = '0'", "grpc.uid must be of type integer"),
        ("grpc = 1", r"grpc must be a section"),
        ("[log]\nlevel = 'loud'", "log.level is 'loud', but must be one of debug"),
        ("[content]\nsharing_policy = 'open'", "content.sharing_policy"),
        ("[snapshots]\ndrivers = ['zfs']", "snapshots.drivers is 'zfs'"),
        ("[snapshots]\ndrivers = 'overlayfs'", "snapshots.drivers must be of type array"),
        ("[diff.stream_processors.x]\npath = '/p'", "diff.stream_processors.x needs accepts"),
        ("[diff.stream_processors.x]\nargs = 1", "diff.stream_processors.x.args must be of type array"),
        ("[diff.stream_processors.x]\nacepts = []", "did you mean diff.stream_processors.x.accepts"),
        ("[diff.limits]\nmax_bytes = -1", r"diff.limits.max_bytes is -1, but must be 0 \(no limit\) or more"),
        ("[diff.limits]\nmax_byte = 1", "did you mean diff.limits.max_bytes"),
        ("= broken", "c.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=complaint) as raised:
        config.load(file)
    assert str(file) in str(raised.value)


def test_stream_processors_are_tables(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[diff]\nsync_fs = true\n[diff.stream_processors."a.b"]\naccepts = ["x"]\nreturns = "y"\npath = "z"\n'
    )
    loaded = config.load(file)
    assert loaded.diff.sync_fs
    assert loaded.diff.stream_processors == {"a.b": config.StreamProcessor(("x",), "y", "z")}
    assert config.parse(tomllib.loads(config.dump(loaded))) == loaded


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"absent\.toml: No such file"):
        config.load(tmp_path / "absent.toml")


def test_the_command_line_wins_and_the_socket_follows_the_state_folder() -> None:
    base = config.Config()
    changed = config.override(base, root="/a", state="/b", address=None, log_level="debug")
    assert (changed.root, changed.state, changed.grpc.address) == ("/a", "/b", "/b/supervisor.sock")
    assert changed.log.level == "debug"
    assert config.override(base, root=None, state=None, address="/x", log_level=None).grpc.address == "/x"
    assert config.override(base, root=None, state=None, address=None, log_level=None) == base


def test_limits_of_layers_are_a_table(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[diff.limits]\nmax_entries = 7\nmax_ratio = 0\n")
    loaded = config.load(file)
    assert loaded.diff.limits == Limits(max_entries=7, max_ratio=0)
    assert config.parse(tomllib.loads(config.dump(loaded))) == loaded
