"""Arranging the heap, so that what a forked child writes to lies close together (no counterpart elsewhere).

A child has each page for itself on which it writes a word, and CPython writes into what it only uses:
counts of references, of calls. Two things spread this over many pages, and both can be mended:

- Small objects are given blocks of pools of one size each (Objects/obmalloc.c). After imports most pools
  have a few free blocks, and whatever is made next would go there, each onto a page of its own.
- The code of functions lies as it was loaded, between names and tables that nobody writes to.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType

from supervisor.kernel.libc import heap_top

_POOL = 16 << 10
_POOL_HEADER = 48
_STEP = 16
_GREATEST = 512
_LARGE = 16 << 10
_MOST = 2 << 20  # bytes of one size
_RUN = 4  # blocks one after the other at the beginning of a pool: it is a new one
_HEADER = 33  # of a bytes object, with its final zero

_kept: list[bytes] = []


def pack_code_of(action: Callable[[], None]) -> None:
    """Run `action`, and give the functions that it calls copies of their code, side by side.

    They lie in the order of their first calls: what ends a life is apart from what every shim has done.
    """
    called: dict[CodeType, list[FunctionType]] = {}

    def note(frame: FrameType, _event: str, _argument: object) -> None:
        called.setdefault(frame.f_code, [])

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    fill_holes()
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__ in called:
            called[one.__code__].append(one)
    for functions in called.values():
        for function in functions:
            function.__code__ = function.__code__.replace()


def fill_holes() -> None:
    """Take every free block of the pools that are in use, and of the C library's heap below its top.

    Where the heap is not as it is known here this gives up early, and saves less.
    """
    gc.collect()
    top = heap_top()
    for size in range(_LARGE, _GREATEST, -_STEP):
        for _ in range(_MOST // size):
            filling = bytes(size - _HEADER)
            if id(filling) > top:
                break
            _kept.append(filling)
    for size in range(3 * _STEP, _GREATEST + 1, _STEP):
        if not _fill(size):
            return


def _fill(size: int) -> bool:
    """Whether a new pool was reached, which is known by its first blocks."""
    in_row = 0
    for _ in range(_MOST // size):
        filling = bytes(size - _HEADER)
        _kept.append(filling)
        expected = _POOL_HEADER + in_row * size
        in_row = in_row + 1 if id(filling) % _POOL == expected else 0
        if in_row == _RUN:
            return True
    return False
