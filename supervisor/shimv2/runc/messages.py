"""From what a request holds to what the shim works with (containerd: api/runtime/task)."""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.errors import InvalidArgument
from supervisor.model.mount import Mount
from supervisor.shimv2.runc import log
from supervisor.shimv2.runc.layouts import MOUNT, OPTIONS, OPTIONS_NAME
from supervisor.shimv2.runc.options import Options
from supervisor.shimv2.runc.wiring import StdioPaths
from supervisor.ttrpc.protobuf import ANY, Fields, Layout


def options_in(encoded: bytes) -> Options:
    """The runc options in an encoded Any; those of other runtimes have nothing to say to this shim.

    So they are in a request, and so older daemons write them on stdin. Raises InvalidArgument.
    """
    try:
        sent = ANY.FromString(encoded)
        type_url = sent.text("type_url")
        if not type_url:
            return Options()
        if type_url.rpartition("/")[2] != OPTIONS_NAME:
            log.warning("options of type %s are not known here and are not followed", type_url)
            return Options()
        fields = OPTIONS.FromString(sent.data("value"))
    except ValueError as error:
        raise InvalidArgument(f"the runtime options cannot be read: {error}") from error
    return Options(
        no_pivot_root=fields.flag("no_pivot_root"),
        no_new_keyring=fields.flag("no_new_keyring"),
        shim_cgroup=fields.text("shim_cgroup"),
        io_uid=fields.number("io_uid"),
        io_gid=fields.number("io_gid"),
        binary_name=fields.text("binary_name"),
        root=fields.text("root"),
        systemd_cgroup=fields.flag("systemd_cgroup"),
        criu_work_path=fields.text("criu_work_path"),
    )


def mounts_in(rootfs: Iterable[bytes]) -> list[Mount]:
    """The mounts of a Create."""
    mounts = []
    for encoded in rootfs:
        sent = _decoded(MOUNT, encoded)
        options = tuple(option.decode() for option in sent.each("options"))
        mounts.append(Mount(sent.text("type"), sent.text("source"), options, sent.text("target")))
    return mounts


def stdio_of(request: Fields) -> StdioPaths:
    """The streams in a Create or an Exec."""
    return StdioPaths(
        request.text("stdin"), request.text("stdout"), request.text("stderr"), request.flag("terminal")
    )


def value_of(request: Fields, name: str) -> bytes:
    """What is in a request's Any."""
    return _decoded(ANY, request.data(name)).data("value")


def _decoded(layout: Layout, encoded: bytes) -> Fields:
    try:
        return layout.FromString(encoded)
    except ValueError as error:
        raise InvalidArgument(f"unmarshal request error: {error}") from error
