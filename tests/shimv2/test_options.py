"""Options of runc on their way to a shim: contract tasks 3.7, 4.4."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.api.types.runc.options.oci_pb2 import Options
from supervisor.errors import InvalidArgument, SupervisorError
from supervisor.model.any import Any
from supervisor.shimv2.options import OLD_OPTIONS_URL, OPTIONS_URL, completed

GO = Path("/usr/bin/containerd-shim-runc-v2")
ROOT = Path("/state/runtime")


def through(options: Any | None) -> Options:
    result = completed(options, GO, ROOT)
    assert result is not None
    assert result.type_url == OPTIONS_URL
    return Options.FromString(result.value)


def packed(**fields: object) -> Any:
    return Any(OPTIONS_URL, Options(**fields).SerializeToString())  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [None, Any("", b"")])
def test_without_options_the_root_is_ours(options: Any | None) -> None:
    assert through(options) == Options(root="/state/runtime")


def test_the_clients_options_stay() -> None:
    assert through(packed(binary_name="crun", io_uid=7)) == Options(
        binary_name="crun", io_uid=7, root="/state/runtime"
    )


def test_a_root_of_the_clients_stays() -> None:
    assert through(packed(root="/elsewhere")).root == "/elsewhere"


def test_a_prefix_of_the_type_is_allowed() -> None:
    assert through(Any(f"type.googleapis.com/{OPTIONS_URL}", b"")).root == "/state/runtime"


def test_a_field_of_another_version_passes() -> None:
    criu_path = b"\x42\x01x"  # field 8, which newer versions do not have
    result = completed(Any(OPTIONS_URL, criu_path), GO, ROOT)
    assert result is not None
    assert criu_path in result.value


def test_old_options() -> None:
    assert through(Any(OLD_OPTIONS_URL, b"\x08\x01")) == Options(no_pivot_root=True, root="/state/runtime")


def test_options_of_others_are_refused() -> None:
    with pytest.raises(SupervisorError, match=r"type with url x.Y: not found"):
        completed(Any("x.Y", b""), GO, ROOT)
    with pytest.raises(InvalidArgument):
        completed(Any(OPTIONS_URL, b"\xff"), GO, ROOT)


def test_other_shims_get_theirs_unread() -> None:
    odd = Any("x.Y", b"\xff")
    assert completed(odd, Path("/bin/containerd-shim-kata-v2"), ROOT) is odd
    assert completed(None, Path("/bin/containerd-shim-kata-v2"), ROOT) is None
