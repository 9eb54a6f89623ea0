"""A real registry that wants a password, behind a proxy that lets it fail."""

import pytest

from fftasks.registry.registry_auth import RegistryLogin
from tests.services.fault_proxy import FaultProxy
from tests.services.registry_client import Client


@pytest.fixture
def proxy(registry):
    with FaultProxy(registry.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy, registry):
    return Client(proxy.server, RegistryLogin(proxy.server, registry.username, registry.password))
