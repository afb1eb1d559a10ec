"""Loop devices: an image file as a block device (containerd: core/mount, losetup_linux.go)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_READ_ONLY = 1
_LO_FLAGS_AUTOCLEAR = 4
# struct loop_config: fd, block_size, loop_info64 (flags at 52, file name at 56..120), 8 reserved words.
_LOOP_CONFIG = struct.Struct("=II 52xI 64s 112x 64x")
_ATTEMPTS = 50


def attach(image: str, *, read_only: bool) -> tuple[int, str]:
    """Put `image` on a free loop device; answers a descriptor of the device and its path.

    The device frees itself at its last close: keep the descriptor open until it is mounted, then close it.
    """
    access = os.O_RDONLY if read_only else os.O_RDWR
    backing = os.open(image, access | os.O_CLOEXEC)
    try:
        return _attach_descriptor(backing, image, access)
    finally:
        os.close(backing)


def _attach_descriptor(backing: int, image: str, access: int) -> tuple[int, str]:
    flags = _LO_FLAGS_AUTOCLEAR | (_LO_FLAGS_READ_ONLY if access == os.O_RDONLY else 0)
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
