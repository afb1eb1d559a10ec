"""The kernel of this machine, and capabilities as /proc tells them."""

import os
from pathlib import Path

import pytest

from supervisor.doctor import machine
from supervisor.doctor.finding import Verdict

EVERYTHING = (1 << 41) - 1
SYS_RESOURCE = 1 << 24
SYS_ADMIN = 1 << 21


def test_an_old_kernel_will_not_do() -> None:
    assert machine.version((5, 5)).verdict is Verdict.FAILURE
    assert machine.version((5, 6)).verdict is Verdict.OK


def test_the_calls_work_here() -> None:
    assert machine.system_calls().verdict is Verdict.OK


@pytest.mark.parametrize(
    ("held", "verdict", "words"),
    [
        (EVERYTHING, Verdict.OK, "all that containers need"),
        (EVERYTHING & ~SYS_RESOURCE, Verdict.WARNING, "CAP_SYS_RESOURCE"),
        (EVERYTHING & ~SYS_ADMIN, Verdict.FAILURE, "lacks CAP_SYS_ADMIN"),
        (0x00000000A80425FB, Verdict.FAILURE, "CAP_SYS_ADMIN"),  # what Docker leaves a container
    ],
)
def test_capabilities_are_those_of_the_daemon(
    tmp_path: Path, held: int, verdict: Verdict, words: str
) -> None:
    (tmp_path / "1234567890").mkdir()
    (tmp_path / "1234567890/status").write_text(f"Name:\td\nCapPrm:\t0\nCapEff:\t{held:016x}\n")
    found = machine.capabilities(1234567890, tmp_path)
    assert found.verdict is verdict
    assert words in found.seen


@pytest.mark.root
def test_capabilities_of_a_real_process() -> None:
    effective = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")
    )
    has_resource = bool(int(effective.split()[1], 16) & SYS_RESOURCE)
    expected = Verdict.OK if has_resource else Verdict.WARNING
    assert machine.capabilities(os.getpid()).verdict is expected
