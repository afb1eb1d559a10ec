"""Registries for the tests of this folder: each kind is started once, when a test first wants it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import registries
from tests.registries import Certificates, Registry
from tests.registry.images import SmallImage, push, reference, session, small_image


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return registries.certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Plain and open to everybody."""
    with registries.running(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def login_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Plain, for registries.USER only."""
    with registries.running(tmp_path_factory.mktemp("login"), login=True) as running:
        yield running


@pytest.fixture(scope="session")
def tls_registry(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Registry]:
    """By TLS, for clients with a certificate of the tests' CA only."""
    folder = tmp_path_factory.mktemp("tls")
    with registries.running(folder, tls=certificates, client_certificates=True) as running:
        yield running


@pytest.fixture(scope="session")
def image(registry: Registry) -> SmallImage:
    """An image that `registry` has as tests/app:1; its last layer is large enough for several chunks."""
    one = small_image((1000, 6 << 20))
    with session() as opened:
        push(opened, reference(registry.host), one)
    return one
