"""Field masks: which paths are allowed, and what they change."""

from __future__ import annotations

import pytest

from supervisor.errors import InvalidArgument
from supervisor.model.fieldmask import MaskPath, merged_map, parse_mask

FIELDS = ("labels", "image")
MAPS = ("labels",)


def test_a_key_is_all_behind_the_first_dot() -> None:
    paths = parse_mask(["image", "labels", "labels.a.b/c"], "thing", fields=FIELDS, maps=MAPS)
    assert paths == (MaskPath("image"), MaskPath("labels"), MaskPath("labels", "a.b/c"))


@pytest.mark.parametrize("path", ["", "id", "labels.", "image.x", "Labels", "labelsx"])
def test_any_other_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot update"):
        parse_mask([path], "thing", fields=FIELDS, maps=MAPS)


def test_merge() -> None:
    stored = {"a": "1", "b": "2"}
    assert merged_map(stored, {"c": "3"}, None) == {"c": "3"}
    assert merged_map(stored, {"a": "9", "c": "3"}, "a") == {"a": "9", "b": "2"}
    assert merged_map(stored, {}, "a") == {"b": "2"}
