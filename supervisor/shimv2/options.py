"""Options of runc, as the daemon completes them for a shim (contract 3.7, 4.4)."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError

from supervisor.api.types.runc.options.oci_pb2 import Options
from supervisor.errors import InvalidArgument, SupervisorError, Unimplemented
from supervisor.model.any import Any
from supervisor.shimv2.naming import speaks_runc_options

OPTIONS_URL = Options.DESCRIPTOR.full_name

# Clients of containerd 1.6 send these, with the same first field, where a runtime's name is not runc's.
OLD_OPTIONS_URL = "containerd.linux.runc.CreateOptions"


def completed(options: Any | None, binary: Path, runtime_root: Path) -> Any | None:
    """The options for a shim: the runtime's root is ours where they leave it open.

    runc's default root would be shared with other daemons, and daemons that share one kill each
    other's containers. Options of other shims pass unread. Raises SupervisorError for options that a
    shim of runc cannot read, Unimplemented for a shim that somebody else has started.
    """
    if not speaks_runc_options(binary):
        return options
    parsed = _parse(options)
    check_shim_is_ours_to_start(parsed.task_api_address)
    parsed.root = parsed.root or str(runtime_root)
    return Any(OPTIONS_URL, parsed.SerializeToString())


def check_shim_is_ours_to_start(task_api_address: str) -> None:
    """Refuse a task for a sandbox's shim, which runs already: in another it would be out of the sandbox."""
    if task_api_address:
        raise Unimplemented(
            f"a task in the shim at {task_api_address[:200]}: tasks run in shims that this daemon starts;"
            " leave task_api_address empty"
        )


def _parse(options: Any | None) -> Options:
    if options is None or not options.type_url:
        return Options()
    name = options.type_url.rpartition("/")[2]
    if name == OLD_OPTIONS_URL:
        return _from_old(options.value)
    if name != OPTIONS_URL:
        raise SupervisorError(f"type with url {options.type_url}: not found")
    return _decoded(options.value)


def _decoded(value: bytes) -> Options:
    try:
        return Options.FromString(value)
    except DecodeError as error:
        raise InvalidArgument(f"the runtime options are no {OPTIONS_URL}: {error}") from error


def _from_old(value: bytes) -> Options:
    """Only the pivot setting has the same number in both; the rest of the old ones no client of ours sets."""
    return Options(no_pivot_root=_decoded(value).no_pivot_root)
