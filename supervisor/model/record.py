"""Values that nobody changes once they are made, for processes that have to stay small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(kind: type[T]) -> type[T]:
    """A dataclass with slots, frozen for the type checker but not at run time.

    What Python does for a frozen one, field by field, touches ten pages more of a forked process.
    """
    return dataclass(slots=True, unsafe_hash=True)(kind)
