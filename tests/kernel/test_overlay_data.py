"""Lists of layers made short (contract tasks 5)."""

import os

import pytest

from supervisor.kernel.overlay_data import in_folder, shorten


def test_layers_are_named_from_their_common_folder() -> None:
    folder, options = shorten(["workdir=/w", "lowerdir=/r/s/2/fs:/r/s/1/fs", "index=off"])
    assert folder == "/r/s"
    assert options == ["workdir=/w", "lowerdir=2/fs:1/fs", "index=off"]


def test_a_single_layer_is_named_from_the_folder_above_it() -> None:
    assert shorten(["lowerdir=/r/s/1/fs"]) == ("/r/s/1", ["lowerdir=fs"])


@pytest.mark.parametrize("options", [["volatile"], ["lowerdir=a:/b"], ["lowerdir=/a::/b"]])
def test_layers_that_cannot_be_named_so(options: list[str]) -> None:
    with pytest.raises(OSError, match="absolute"):
        shorten(options)


def test_the_rest_of_the_process_keeps_its_folder() -> None:
    before, seen = os.getcwd(), []
    in_folder("/proc", lambda: seen.append(os.getcwd()))
    assert seen == ["/proc"]
    assert os.getcwd() == before


def test_what_the_action_raises_comes_out() -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        in_folder("/", lambda: os.chdir("missing"))
