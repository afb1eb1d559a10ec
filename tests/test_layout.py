"""The house rules that no linter knows, and that every way to install the project gives all of it."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "supervisor"
MODULES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not {"api", "migrations"} & set(path.relative_to(PACKAGE).parts)
]
LONGEST = 400
SOURCES = ["api", "migrations", "supervisor", "tests"]
FILES = ["CHANGELOG.md", "LICENSE", "README.md", "hatch_build.py", "pyproject.toml", "tox.ini"]

HEAVY = ["asyncio", "grpc", "sqlalchemy", "alembic", "requests", "zstandard", "isal", "re2"]
LOAD_SHIM = """
import pkgutil, sys, supervisor.shimv2.runc as shim
for module in pkgutil.iter_modules(shim.__path__, shim.__name__ + "."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
print(*sorted(sys.modules))
"""
LOAD_ALL = """
import pkgutil, sys, supervisor
names = [module.name for module in pkgutil.walk_packages(supervisor.__path__, "supervisor.")]
for name in names:
    if not name.startswith("supervisor.migrations") and not name.endswith("__main__"):
        __import__(name)
assert "supervisor.api.services.tasks.v1.tasks_pb2_grpc" in sys.modules, names
from sqlalchemy import create_engine
from supervisor.metadata import migrate
engine = create_engine("sqlite://")
with engine.connect() as connection:
    migrate.upgrade(connection)
    migrate.upgrade(connection)
    assert migrate.revision(connection)
print(supervisor.__file__)
"""

needs_checkout = pytest.mark.skipif(not (ROOT / "hatch_build.py").exists(), reason="needs the checkout")


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a command that must succeed; what it prints."""
    words = [str(word) for word in command]
    answer = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"{words}: {answer.stdout}{answer.stderr}"
    return answer.stdout


@needs_checkout
@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=str)
def test_a_package_is_a_docstring(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@needs_checkout
def test_modules_are_short_enough_to_be_read() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_the_shim_loads_nothing_heavy() -> None:
    loaded = run(sys.executable, "-P", "-c", LOAD_SHIM).split()
    assert not set(HEAVY) & set(loaded)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is committed, so that a build changes nothing in the checkout."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    shutil.rmtree(copy / "supervisor" / "api", ignore_errors=True)
    (copy / "supervisor" / "migrations").unlink(missing_ok=True)
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    return copy


def build(sources: Path, kind: str, target: Path) -> Path:
    """The one file that a build of a kind gives."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target, cwd=sources)
    (built,) = target.iterdir()
    return built


def environment(folder: Path) -> Path:
    """A virtual environment that has the project's dependencies, but not the project; its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A path in a .pth file is searched, but its own .pth files, the checkout's among them, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def check_installation(python: Path, place: Path) -> None:
    """All modules import, the migrations run, the programs start, and nothing strange came along."""
    assert Path(run(python, "-P", "-c", LOAD_ALL, cwd=Path("/")).strip()).is_relative_to(place)
    for program in ("container-supervisor", "sctr"):
        assert f"usage: {program}" in run(python.parent / program, "--help", cwd=Path("/"))
    assert "container" in run(python.parent / "containerd-shim-oci-v2", "-v", cwd=Path("/")).lower()
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    assert not {"api", "migrations", "tests", "demo"} & {path.name for path in site.iterdir()}


def install(python: Path, *what: object) -> None:
    """Install without asking the network for anything."""
    words = ("-m", "pip", "--quiet", "--python", python, "install", "--no-deps", "--no-build-isolation")
    run(sys.executable, *words, *what)


@needs_checkout
@pytest.mark.slow
def test_wheel(sources: Path, tmp_path: Path) -> None:
    wheel = build(sources, "wheel", tmp_path / "dist")
    python = environment(tmp_path / "venv")
    install(python, wheel)
    check_installation(python, tmp_path / "venv")


@needs_checkout
@pytest.mark.slow
def test_wheel_from_the_sdist_is_the_same(sources: Path, tmp_path: Path) -> None:
    archive = build(sources, "sdist", tmp_path / "sdist")
    subprocess.run(["tar", "--extract", "--file", str(archive), "--directory", str(tmp_path)], check=True)
    (unpacked,) = tmp_path.glob("container_supervisor-*")
    from_sdist = build(unpacked, "wheel", tmp_path / "from_sdist")
    direct = build(sources, "wheel", tmp_path / "direct")
    assert from_sdist.read_bytes() == direct.read_bytes()


@needs_checkout
@pytest.mark.slow
def test_editable_install(sources: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, "--editable", sources)
    check_installation(python, sources)
    build(sources, "wheel", tmp_path / "dist")
    check_installation(python, sources)
