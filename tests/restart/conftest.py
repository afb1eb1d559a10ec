"""A daemon with a quick restart monitor, and `sctr`."""

from tests.cli.conftest import image_tar

__all__ = ["image_tar"]
