"""Archives made by Python's tarfile, and layers applied to real folders."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.diff.apply import Applied, Processing, apply
from supervisor.diff.compression import Readable
from supervisor.diff.limits import DEFAULT_LIMITS, Limits
from supervisor.model.mount import Mount
from supervisor.oci.image import OCI_LAYER

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.mtime = (
        kind,
        len(data),
        0o755 if kind == tarfile.DIRTYPE else 0o644,
        1000,
    )
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, **fields: object) -> Member:
    return member(name, kind=tarfile.DIRTYPE, **fields)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    return member(name, kind=kind, linkname=target)


def archive(*members: Member, dialect: int = tarfile.PAX_FORMAT, ended: bool = True) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=dialect, errors="surrogateescape") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
        end = tar.offset
    return buffer.getvalue() if ended else buffer.getvalue()[:end]


@dataclass
class Layers:
    """Folders of one snapshot: `upper` is what is applied to, `lowers` is below it."""

    root: Path
    lowers: list[Path] = field(default_factory=list)

    @property
    def upper(self) -> Path:
        return self.root / "upper"

    def lower(self, name: str = "lower") -> Path:
        path = self.root / name
        path.mkdir()
        self.lowers.append(path)
        return path

    def bind(self) -> list[Mount]:
        return [Mount("bind", str(self.upper), ("rw", "rbind"))]

    def overlay(self) -> list[Mount]:
        options = [f"upperdir={self.upper}", f"workdir={self.root / 'work'}"]
        if self.lowers:
            options.append("lowerdir=" + ":".join(map(str, self.lowers)))
        return [Mount("overlay", "overlay", tuple(options))]

    def mounted(self) -> list[Mount]:
        """The same tree, in a form that has to be mounted."""
        return [*self.overlay(), Mount("tmpfs", "tmpfs", ("rw",), "/tmpfs")]

    def apply(
        self,
        data: bytes,
        mounts: Sequence[Mount] | None = None,
        media_type: str = OCI_LAYER,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Applied:
        return self.apply_stream(io.BytesIO(data), media_type, limits, mounts)

    def apply_stream(
        self, source: Readable, media_type: str, limits: Limits, mounts: Sequence[Mount] | None = None
    ) -> Applied:
        chosen = self.bind() if mounts is None else mounts
        processing = Processing(limits=limits)
        return apply(
            source,
            media_type,
            chosen,
            tmp_root=self.root / "tmpmounts",
            sync=False,
            processing=processing,
        )
