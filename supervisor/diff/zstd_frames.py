"""Where zstd frames begin and end (RFC 8878, section 3), without decompressing anything. Pure.

Needed because a decompressor that is asked for bytes cannot tell a stream that is complete from one
that was cut off; walking the lengths of frames and blocks can.
"""

from __future__ import annotations

_FRAME_MAGIC = 0xFD2FB528
_SKIPPABLE_FIRST, _SKIPPABLE_LAST = 0x184D2A50, 0x184D2A5F
_RLE_BLOCK = 1


def is_zstd(start: bytes) -> bool:
    """Whether a stream that begins with `start` is zstd, skippable frames included."""
    magic = int.from_bytes(start[:4], "little")
    return len(start) >= 4 and (magic == _FRAME_MAGIC or _is_skippable(magic))


def _is_skippable(magic: int) -> bool:
    return _SKIPPABLE_FIRST <= magic <= _SKIPPABLE_LAST


class FrameWalker:
    """Fed a stream in any pieces, it knows whether the stream so far ends between two frames.

    Of bytes that are no zstd it says nothing useful: the decompressor refuses those.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._skip = 0
        self._step = self._magic
        self._checksum = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        view = self._pending + data if self._pending else data
        place = 0
        while place < len(view) or self._skip == 0:
            if self._skip:
                taken = min(self._skip, len(view) - place)
                self._skip -= taken
                place += taken
                continue
            used = self._step(view, place)
            if not used:
                break
            place += used
        self._pending = view[place:]

    def at_boundary(self) -> bool:
        """Whether all frames that began have ended."""
        return self._step == self._magic and not self._skip and not self._pending

    # Each step answers how many bytes it used up, 0 when it needs more than there are.

    def _magic(self, view: bytes, place: int) -> int:
        if len(view) - place < 5:
            return 0
        if _is_skippable(int.from_bytes(view[place : place + 4], "little")):
            if len(view) - place < 8:
                return 0
            self._skip = int.from_bytes(view[place + 4 : place + 8], "little")
            return 8
        descriptor = view[place + 4]
        self._checksum = bool(descriptor & 0x04)
        self._skip = _header_rest(descriptor)
        self._step = self._block
        return 5

    def _block(self, view: bytes, place: int) -> int:
        if len(view) - place < 3:
            return 0
        header = int.from_bytes(view[place : place + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        self._skip = 1 if kind == _RLE_BLOCK else size
        if last:
            self._skip += 4 if self._checksum else 0
            self._step = self._magic
        return 3


def _header_rest(descriptor: int) -> int:
    """Bytes of a frame header behind its descriptor: window, dictionary id, content size."""
    single_segment = bool(descriptor & 0x20)
    window = 0 if single_segment else 1
    dictionary = (0, 1, 2, 4)[descriptor & 3]
    content_size = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    return window + dictionary + content_size
