"""Build hook: compile `api/` into `supervisor/api/` and make the migrations part of the package.

The protos import each other as `supervisor/api/...`, so the generated modules are
`supervisor.api.types.mount_pb2` and so on, while packages on the wire stay containerd's.
"""

from __future__ import annotations

import os
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GeneratedCode(BuildHookInterface[Any]):
    """Runs before a wheel (also an editable one) is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        compile_protos(root / "api", root / "supervisor" / "api")
        link = root / "supervisor" / "migrations"
        if version == "editable":
            if not link.is_symlink():
                link.symlink_to(Path("..") / "migrations")
            return
        build_data["force_include"][str(root / "migrations")] = "supervisor/migrations"


def compile_protos(source: Path, target: Path) -> None:
    """Write the Python modules and stubs of every proto below `source` into `target`."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.proto"))
    with as_file(files("grpc_tools") / "_proto") as well_known, as_file(files("google") / "rpc") as rpc:
        base = [
            "protoc",
            f"--proto_path=supervisor/api={source}",
            f"--proto_path={well_known}",
            f"--proto_path={Path(rpc).parent.parent}",
        ]
        out = target.parent.parent
        run(base + [f"--python_out={out}", f"--pyi_out={out}"] + [f"supervisor/api/{n}" for n in names])
        services = [f"supervisor/api/{n}" for n in names if n.startswith("services/")]
        run([*base, f"--grpc_python_out={out}", *services])
    for folder, _, _ in os.walk(target):
        (Path(folder) / "__init__.py").write_text(
            '"""Generated from the protos in api/; not edited, not committed."""\n'
        )


def run(arguments: list[str]) -> None:
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc failed; its messages stand above. Arguments: {arguments}")
