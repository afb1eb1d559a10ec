"""The protos: every part says in our own words what it means, and nothing is served without its proto."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import supervisor.api

API = Path(__file__).parent.parent.parent / "api"
PROTOS = sorted(API.rglob("*.proto"))

_PART = re.compile(r"\s*(?:(?:service|message|enum) \w+ \{|rpc \w+\()")


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: str(path.relative_to(API)))
def test_every_part_is_explained(path: Path) -> None:
    lines = path.read_text().splitlines()
    bare = [
        line.strip() for before, line in zip(["", *lines], lines) if _PART.match(line) and "//" not in before
    ]
    assert not bare
    assert any(
        before.startswith("//") for before, line in zip(["", *lines], lines) if line.startswith("package ")
    )


def test_every_proto_has_its_module() -> None:
    found = {info.name for info in pkgutil.walk_packages(supervisor.api.__path__, "supervisor.api.")}
    wanted = {
        ".".join(["supervisor.api", *p.relative_to(API).with_suffix("").parts]) + "_pb2" for p in PROTOS
    }
    assert wanted <= found
    for name in sorted(wanted):
        importlib.import_module(name)
