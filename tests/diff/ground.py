"""Where strange layers are unpacked: a tree, a canary beside it, and what must hold whatever the layer is."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import signal
import stat
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.diff.apply import Applied, Processing, apply
from supervisor.errors import SupervisorError
from supervisor.model.mount import Mount
from supervisor.oci.image import OCI_LAYER_GZIP
from tests.diff import independent
from tests.diff.reading import LIMITS

HANGS_AFTER = 30  # seconds

# What the worker says of an exception that nobody expected, and its parent of a worker that is dead.
DEFECT = re.compile(r"unpack worker: \w+(Error|Exception|Exit|Interrupt)\b|died without a word|Traceback")


@dataclass
class Ground:
    """A folder of its own for each layer: `upper` is unpacked to, the rest must stay as it is."""

    root: Path
    upper: Path = field(init=False)

    def __post_init__(self) -> None:
        self.upper = self.root / "upper"
        (self.root / "canary").mkdir()
        (self.root / "canary/file").write_text("untouched")
        (self.root / "lower/a").mkdir(parents=True)
        (self.root / "lower/a/b").write_text("below")
        (self.root / "mounts").mkdir()

    def check(self, blob: bytes, mode: str) -> SupervisorError | None:
        """Unpack `blob` into the empty tree, by binding it or as an overlay's; the error it was refused with.

        Raises AssertionError when that is a defect.
        """
        for name in ("upper", "work"):
            (self.root / name).mkdir()
        try:
            before = self._outside()
            answer = self._answer(blob, mode)
            assert self._outside() == before, "something outside of the layer has changed"
            if isinstance(answer, Applied):
                self._compare(blob, answer)
                return None
            assert not DEFECT.search(str(answer)), answer
            return answer
        finally:  # deeper than Python's own functions go
            subprocess.run(["rm", "-rf", self.upper, self.root / "work"], check=True)

    def _mounts(self, mode: str) -> list[Mount]:
        if mode == "bind":
            return [Mount("bind", str(self.upper), ("rw", "rbind"))]
        options = (f"upperdir={self.upper}", f"workdir={self.root}/work", f"lowerdir={self.root}/lower")
        return [Mount("overlay", "overlay", options)]

    def _answer(self, blob: bytes, mode: str) -> Applied | SupervisorError:
        """What `apply` says, in a thread that can be waited for; any other exception is raised."""
        said: list[Applied | SupervisorError | BaseException] = []

        def work() -> None:
            processing = Processing(limits=LIMITS)
            try:
                said.append(
                    apply(
                        io.BytesIO(blob),
                        OCI_LAYER_GZIP,
                        self._mounts(mode),
                        tmp_root=self.root / "mounts",
                        sync=False,
                        processing=processing,
                    )
                )
            except BaseException as error:  # all is told to the thread that waits
                said.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(HANGS_AFTER)
        if thread.is_alive():
            _end_children(thread)
            raise AssertionError(f"no answer after {HANGS_AFTER} seconds")
        (answer,) = said
        if not isinstance(answer, Applied | SupervisorError):
            raise AssertionError(f"an error of no class of ours: {answer!r}") from answer
        return answer

    def _compare(self, blob: bytes, applied: Applied) -> None:
        plain = independent.decompressed(blob)
        if plain is None:
            return
        assert applied.size == len(plain), (applied, len(plain))
        assert applied.digest == "sha256:" + hashlib.sha256(plain).hexdigest()
        wanted = independent.expected(plain)
        if wanted is not None:
            told = independent.differences(wanted, independent.found(self.upper))
            assert not told, "; ".join(told)

    def _outside(self) -> dict[str, object]:
        """All that is beside the layer, to the time of its last change."""
        state: dict[str, object] = {}
        for folder, folders, files in os.walk(self.root):
            if Path(folder) == self.root:
                folders[:] = [name for name in folders if name not in ("upper", "work")]
            for name in (*folders, *files):
                path = Path(folder, name)
                status = path.lstat()
                data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
                is_scratch = path == self.root / "mounts"
                state[str(path)] = (
                    status.st_mode,
                    status.st_uid,
                    status.st_nlink,
                    0 if is_scratch else status.st_ctime_ns,
                    data,
                )
        return state


def _end_children(thread: threading.Thread) -> None:
    """End the worker that a thread waits for."""
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/self/task/{thread.native_id}/children").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
