"""The transform `mkfs/`: an image file with a filesystem in it (containerd: core/mount/manager, mkfs.go)."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from supervisor.errors import FailedPrecondition, InvalidArgument, SupervisorError
from supervisor.kernel.paths import descriptor_path
from supervisor.model.mount import Mount
from supervisor.mounts.roots import parent_of

PREFIX = "X-containerd.mkfs."
TIMEOUT = 120.0  # seconds; a large image takes some

_SIZE = re.compile(r"(\d{1,15})(?:\.(\d{1,3}))? ?(?:([kmgtp])i?)?b?", re.IGNORECASE)
_UNITS = ("", "k", "m", "g", "t", "p")
_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs")


def apply(mount: Mount, roots: Sequence[Path]) -> Mount:
    """Make the image that is the mount's source, unless it is there; answers the mount without its options.

    Raises InvalidArgument for options that cannot be read or a path outside of `roots`, FailedPrecondition
    for a source that is no file, SupervisorError when the filesystem cannot be made, OSError.
    """
    settings = dict(_setting(option) for option in mount.options if option.startswith(PREFIX))
    size = _bytes(settings.get("size", ""))
    command = _command(settings)
    with parent_of(mount.source, roots) as (parent, name):
        if not _is_there(mount.source, name, parent):
            _make(mount.source, name, parent, size, command)
    return replace(mount, options=tuple(o for o in mount.options if not o.startswith(PREFIX)))


def _setting(option: str) -> tuple[str, str]:
    key, _, value = option.removeprefix(PREFIX).partition("=")
    if key not in ("size", "fs", "uuid"):
        raise InvalidArgument(f"mount option {option!r}: known are {PREFIX}size, fs and uuid")
    return key, value


def _bytes(text: str) -> int:
    """A size as containerd reads it: every unit is a power of 1024."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"mount option {PREFIX}size={text} must be there and a size like 512MiB")
    whole, fraction, unit = match.groups()
    scale = 1024 ** _UNITS.index((unit or "").lower())
    size: int = int(whole) * scale + int(fraction or 0) * scale // 10 ** len(fraction or "")
    if not 0 < size < 1 << 60:
        raise InvalidArgument(f"mount option {PREFIX}size={text} is out of range")
    return size


def _command(settings: Mapping[str, str]) -> list[str]:
    filesystem, identity = settings.get("fs", "ext4"), settings.get("uuid", "")
    if filesystem not in _FILESYSTEMS:
        raise InvalidArgument(
            f"filesystem {filesystem!r} of a mount must be one of {', '.join(_FILESYSTEMS)}"
        )
    command = [f"mkfs.{filesystem}", "-q"]
    if not identity:
        return command
    try:
        identity = str(UUID(identity))
    except ValueError:
        raise InvalidArgument(f"mount option {PREFIX}uuid={identity} is no UUID") from None
    return [*command, "-m", f"uuid={identity}"] if filesystem == "xfs" else [*command, "-U", identity]


def _is_there(source: str, name: str, parent: int) -> bool:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise FailedPrecondition(f"mkfs of {source!r} for a mount: it exists and is no file")
    return True


def _make(source: str, name: str, parent: int, size: int, command: Sequence[str]) -> None:
    """Under another name until it is whole: an image that is there is taken for one that can be mounted."""
    temporary = f".{name}.{os.urandom(6).hex()}"
    image = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640, dir_fd=parent)
    try:
        os.ftruncate(image, size)
        _format(source, image, command)
        os.fsync(image)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        raise
    finally:
        os.close(image)


def _format(source: str, image: int, command: Sequence[str]) -> None:
    try:
        subprocess.run(
            [*command, descriptor_path(image)],
            pass_fds=(image,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=True,
        )
    except FileNotFoundError:
        raise FailedPrecondition(f"mkfs of {source!r}: {command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").strip()
        raise SupervisorError(f"mkfs of {source!r}: {command[0]} failed: {told}") from error
    except subprocess.TimeoutExpired as error:
        raise SupervisorError(f"mkfs of {source!r}: {command[0]} took more than {TIMEOUT:.0f} s") from error
