"""A daemon, the SDK, and registries, for the tests of this folder."""

from tests.client.conftest import image_tar, sdk, target
from tests.registry.conftest import login_registry, registry

__all__ = ["image_tar", "login_registry", "registry", "sdk", "target"]
