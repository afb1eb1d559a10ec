"""Layers that are broken in every way: each is unpacked rightly or refused by an error of ours.

What was ever found to go wrong lies in `corpus` and is tried again each time. `make fuzz` is the long form,
of as many seconds as FUZZ says.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.diff.ground import Ground
from tests.diff.mutations import PACKERS, blobs, seeds
from tests.diff.reading import read

CORPUS = Path(__file__).parent / "corpus"
SECONDS = float(os.environ.get("FUZZ", "0"))
ROUND = 300
MODES = ("bind", "overlay")

long = pytest.mark.skipif(not SECONDS, reason="the long form: make fuzz")

Check = Callable[[bytes, str], object]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@contextlib.contextmanager
def kept(tried: list[bytes]) -> Iterator[None]:
    """Add the layer that was tried last, which is the smallest that fails, to the corpus if one fails."""
    try:
        yield
    except BaseException:
        if tried:
            CORPUS.mkdir(exist_ok=True)
            path = CORPUS / hashlib.sha256(tried[-1]).hexdigest()[:16]
            path.write_bytes(tried[-1])
            print(f"kept as {path}")
        raise


def search(check: Check, root: str, examples: int, number: int) -> None:
    """Try layers that a number stands for, and make a failing one as small as it can be."""
    tried: list[bytes] = []

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(blobs(root), st.sampled_from(MODES))
    def one(blob: bytes, mode: str) -> None:
        tried[:] = [blob]
        check(blob, mode)

    with kept(tried):
        one()


def search_long(check: Check, root: str, seconds: float) -> None:
    """Try other layers until the time is up."""
    end, number = time.monotonic() + seconds, time.time_ns()
    rounds = 0
    while time.monotonic() < end:
        search(check, root, ROUND, number + rounds)
        rounds += 1
    print(f"{rounds * ROUND} layers, seeds from {number}")


def only_read(blob: bytes, _mode: str) -> None:
    read(blob)


def test_any_layer_can_be_read(tmp_path: Path) -> None:
    search(only_read, str(tmp_path), 200, 1)


@pytest.mark.root
def test_what_others_are_made_of(ground: Ground) -> None:
    """Archives as they are, each packed in another way; some of each kind of answer."""
    packers = itertools.cycle(PACKERS.values())
    for mode in MODES:
        answers = [ground.check(packer(tar), mode) for packer, tar in zip(packers, seeds(str(ground.root)))]
        assert answers.count(None) > 10
        assert len(answers) - answers.count(None) > 10


@pytest.mark.root
def test_any_layer_is_unpacked_or_refused(ground: Ground) -> None:
    search(ground.check, str(ground.root), 50, 1)


@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", sorted(CORPUS.glob("*")), ids=lambda path: path.name)
def test_what_was_found_before(ground: Ground, path: Path, mode: str) -> None:
    blob = path.read_bytes()
    read(blob)
    ground.check(blob, mode)


@long
def test_reading_for_long(tmp_path: Path) -> None:
    search_long(only_read, str(tmp_path), SECONDS / 5)


@long
@pytest.mark.root
@pytest.mark.skipif(not find_spec("atheris"), reason="no atheris: .venv/bin/pip install -e .[fuzz]")
def test_reading_by_what_is_reached(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Inputs that reach something new in the readers are then unpacked, too."""
    folder = tmp_path_factory.mktemp("reached")
    CORPUS.mkdir(exist_ok=True)
    bounds = (f"-max_total_time={SECONDS / 5:.0f}", "-timeout=20", "-rss_limit_mb=1024", "-max_len=65536")
    options = (*bounds, "-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={CORPUS}/")
    done = subprocess.run([sys.executable, "-m", "tests.diff.guided", *options, folder], check=False)
    assert done.returncode == 0, f"what fails is in {CORPUS}"
    for number, path in enumerate(sorted(folder.iterdir())):
        blob = path.read_bytes()
        with kept([blob]):
            ground.check(blob, MODES[number % len(MODES)])


@long
@pytest.mark.root
def test_unpacking_for_long(ground: Ground) -> None:
    search_long(ground.check, str(ground.root), SECONDS * 3 / 5)
