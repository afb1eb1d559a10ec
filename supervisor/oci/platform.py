"""Platforms: what an image was built for, and which entry of an index suits a host.

OCI image spec, image-index.md "platform"; containerd keeps this in the library platforms. Variants
of arm run on newer variants of it, nothing else runs on something else.
"""

from __future__ import annotations

import os

from supervisor.errors import InvalidArgument
from supervisor.model.platform import Platform
from supervisor.oci.document import Node

_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "riscv64": ("riscv64", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "loongarch64": ("loong64", ""),
}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
_ARM_NEWEST = 8


def host() -> Platform:
    """The platform of the machine this runs on."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse(text: str) -> Platform:
    """The platform that `os/architecture[/variant]` names; raises InvalidArgument."""
    parts = text.lower().split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise InvalidArgument(f"platform {text[:100]!r} must look like linux/amd64 or linux/arm/v7")
    return _normal(Platform(*parts))


def read(node: Node) -> Platform | None:
    """The platform of an index entry, or None when it states none."""
    if not node.has("architecture") and not node.has("os"):
        return None
    fields = (node.child(key).text() for key in ("os", "architecture", "variant"))
    return _normal(Platform(*fields))


def rank(offered: Platform | None, wanted: Platform) -> int | None:
    """How well an image suits `wanted`: 0 is best, higher is worse, None does not run at all.

    An image that states no platform is the last choice, since nothing says that it does not fit.
    """
    if offered is None:
        return 100
    offered, wanted = _normal(offered), _normal(wanted)
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return None
    return _variant_rank(offered, wanted)


def _variant_rank(offered: Platform, wanted: Platform) -> int | None:
    if offered.variant == wanted.variant:
        return 0
    if offered.architecture != "arm":
        # amd64/v2, arm64/v9: a plain one runs everywhere, a named one only where it was asked for.
        return 1 if not offered.variant else None
    distance = _arm_level(wanted) - _arm_level(offered)
    return distance if distance >= 0 else None


def _arm_level(platform: Platform) -> int:
    digits = platform.variant.removeprefix("v")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 3 else _ARM_NEWEST


def _normal(platform: Platform) -> Platform:
    architecture = _ALIASES.get(platform.architecture, platform.architecture)
    variant = platform.variant
    if architecture == "arm" and not variant:
        variant = "v7"
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    return Platform(platform.os, architecture, variant)
