"""Programs that say whether an image may be pulled (containerd: pkg/imageverifier/bindir).

Each program in a folder is run with `-name NAME -digest DIGEST -stdin-media-type TYPE` and the descriptor
as JSON on its standard input. All must end with 0; what one prints is its reason, and what it says on
standard error is logged. A folder that is not there, or empty, lets everything pass.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from supervisor.errors import PermissionDenied
from supervisor.model.descriptor import Descriptor

log = logging.getLogger(__name__)

DESCRIPTOR_TYPE = "application/vnd.oci.descriptor.v1+json"
MAX_REASON_BYTES = 16 << 10

Verify = Callable[[str, Descriptor], None]
"""Raises what forbids an image of that name and target."""


@dataclass(frozen=True, slots=True)
class Verifiers:
    """The programs of a folder, in the order of their names, of which `most` are asked (-1: all)."""

    folder: Path
    most: int = 10
    seconds: float = 10.0
    """What each may take."""

    def check(self, name: str, target: Descriptor) -> None:
        """Raise PermissionDenied, with the reason, unless every program lets the image pass."""
        try:
            programs = sorted(path for path in self.folder.iterdir() if path.is_file())
        except FileNotFoundError:
            return
        for program in programs[: self.most if self.most >= 0 else None]:
            self._ask(program, name, target)

    def _ask(self, program: Path, name: str, target: Descriptor) -> None:
        words = ["-name", name, "-digest", target.digest, "-stdin-media-type", DESCRIPTOR_TYPE]
        refused = f"pull of {name} with digest {target.digest} is blocked by image verifier {program.name}"
        try:
            status, said, errors = self._run([str(program), *words], target)
        except OSError as error:
            raise PermissionDenied(f"{refused}: it cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired:
            raise PermissionDenied(f"{refused}: it gave no answer within {self.seconds:g} s") from None
        if errors:
            log.info("image verifier %s about %s: %s", program.name, name, errors)
        if status:
            raise PermissionDenied(f"{refused}: {said or errors or f'it ended with {status}'}")

    def _run(self, command: list[str], target: Descriptor) -> tuple[int, str, str]:
        """Run it in a group of its own, so that what it started ends with it."""
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                said, errors = process.communicate(_document(target), timeout=self.seconds)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return process.returncode, _text(said), _text(errors)


def _document(target: Descriptor) -> bytes:
    document = {
        "mediaType": target.media_type,
        "digest": target.digest,
        "size": target.size,
        **({"annotations": dict(target.annotations)} if target.annotations else {}),
    }
    return json.dumps(document).encode()


def _text(data: bytes) -> str:
    return data[:MAX_REASON_BYTES].decode(errors="replace").strip()
