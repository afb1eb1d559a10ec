"""Loop devices: an image file as a block device (containerd: core/mount, losetup_linux.go)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LO_FLAGS_READ_ONLY = 1
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16
_LOOP_INFO64_BYTES = 232  # it begins with device and inode of the backing file
# struct loop_config: fd, block_size, loop_info64 (flags at 52, file name at 56..120), 8 reserved words.
_LOOP_CONFIG = struct.Struct("=II 52xI 64s 112x 64x")
_ATTEMPTS = 50


def attach(image: str, *, read_only: bool) -> tuple[int, str]:
    """Put `image` on a free loop device; answers a descriptor of the device and its path.

    The device frees itself at its last close: keep the descriptor open until it is mounted, then close it.
    """
    return _attach(image, read_only, _LO_FLAGS_AUTOCLEAR)


def attach_lasting(image: str, *, read_only: bool, direct: bool = False) -> tuple[str, str]:
    """Put `image` on a free loop device that stays until `detach`; answers its path and what backs it."""
    device, path = _attach(image, read_only, _LO_FLAGS_DIRECT_IO if direct else 0)
    try:
        return path, _backing(device)
    finally:
        os.close(device)


def detach(path: str, backing: str) -> None:
    """Free a loop device, at once or as soon as nobody uses it, if `backing` is still what it holds.

    A device that is gone, or that has been given to another image meanwhile, is left alone.
    """
    try:
        device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _backing(device) == backing:
            fcntl.ioctl(device, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:  # nothing is attached
            raise OSError(error.errno, f"detach loop device: {error.strerror}", path) from None
    finally:
        os.close(device)


def is_backed(path: str, backing: str) -> bool:
    """Whether `backing` is what the device holds."""
    try:
        device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _backing(device) == backing
    except OSError:
        return False
    finally:
        os.close(device)


def _backing(device: int) -> str:
    """Filesystem and inode of a device's image, which stay the same when the image is renamed."""
    status = fcntl.ioctl(device, _LOOP_GET_STATUS64, bytes(_LOOP_INFO64_BYTES))
    number, inode = struct.unpack_from("=QQ", status)
    return f"{number:x}:{inode}"


def _attach(image: str, read_only: bool, flags: int) -> tuple[int, str]:
    access = os.O_RDONLY if read_only else os.O_RDWR
    backing = os.open(image, access | os.O_CLOEXEC)
    try:
        return _attach_descriptor(backing, image, access, flags)
    finally:
        os.close(backing)


def _attach_descriptor(backing: int, image: str, access: int, flags: int) -> tuple[int, str]:
    flags |= _LO_FLAGS_READ_ONLY if access == os.O_RDONLY else 0
    config = _LOOP_CONFIG.pack(backing, 0, flags, os.fsencode(image)[:63])
    for _ in range(_ATTEMPTS):
        path = f"/dev/loop{_free_number()}"
        device = os.open(path, access | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _LOOP_CONFIGURE, config)
        except OSError as error:
            os.close(device)
            # Another process took the same free device between our two calls.
            if error.errno != errno.EBUSY:
                raise OSError(error.errno, f"loop device {path}: {error.strerror}", image) from None
        else:
            return device, path
    raise OSError(errno.EBUSY, "no loop device stayed free long enough to take it", image)


def _free_number() -> int:
    with open("/dev/loop-control", "rb") as control:
        return fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
