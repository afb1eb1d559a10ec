"""Prints the same checks on Debian's containerd and on the supervisor side by side: `make docker-table`.

Ends with 1 when something that passes on containerd does not pass here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

TARGETS = ("containerd", "supervisor")
HERE = Path(__file__).parent


def main(arguments: list[str]) -> int:
    """Run the suite on both, with more words for pytest if there are any, and compare."""
    results = {target: run(target, arguments) for target in TARGETS}
    checks = sorted({check for result in results.values() for check in result})
    width = max(map(len, checks), default=0)
    print(f"{'check':{width}}  " + "  ".join(f"{target:10}" for target in TARGETS))
    for check in checks:
        words = (results[target].get(check, "not run") for target in TARGETS)
        print(f"{check:{width}}  " + "  ".join(f"{word:10}" for word in words))
    passed = {target: {c for c, word in results[target].items() if word == "passed"} for target in TARGETS}
    print(
        f"{'passed, of ' + str(len(checks)):{width}}  " + "  ".join(f"{len(passed[t]):<10}" for t in TARGETS)
    )
    return 1 if passed["containerd"] - passed["supervisor"] or not checks else 0


def run(target: str, arguments: list[str]) -> dict[str, str]:
    """One word for each check on one target."""
    print(f"==> on {target}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", str(HERE), "-q", f"--junitxml={report}", *arguments]
        subprocess.run(command, env=os.environ | {"COMPAT_TARGET": target}, stdout=sys.stderr, check=False)
        cases = ElementTree.parse(report).iter("testcase")
        return {
            f"{case.get('classname', '').rpartition('.')[2]}: {case.get('name')}": word(case)
            for case in cases
        }


def word(case: ElementTree.Element) -> str:
    """How a check ended."""
    for kind, text in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if case.find(kind) is not None:
            return text
    return "passed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
