"""The reading of layers under a fuzzer that follows which code an input reaches (atheris).

`python -m tests.diff.guided [libFuzzer's options] FOLDER`, as `make fuzz` does where atheris is installed.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["supervisor.diff"]):
    from tests.diff.reading import read

from tests.diff.mutations import PACKERS, headers, seeds, sign


def mutate(data: bytes, longest: int, number: int) -> bytes:
    """The fuzzer's own change; mostly the headers get a right checksum again, or it ends at the first one."""
    changed = bytearray(atheris.Mutate(data, longest))
    if random.Random(number).random() < 0.9:
        for place in headers(changed):
            sign(changed, place)
    return bytes(changed)


def main() -> None:
    folder = Path(sys.argv[-1])
    for number, tar in enumerate(seeds("/canary")):
        for name, packer in PACKERS.items():
            (folder / f"{number}-{name.replace(' ', '-')}").write_bytes(packer(tar))
    atheris.Setup(sys.argv, read, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
