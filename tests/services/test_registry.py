"""The registry: users, tags, digests, outages."""

from __future__ import annotations

import pytest
import requests
from docker.errors import APIError


@pytest.fixture(scope="module")
def pushed(engine, base_image, _session_registry) -> str:
    """Push a small image as tests/registry:1 and :2."""
    name = f"{_session_registry.server}/tests/registry"
    for tag in ("1", "2"):
        engine.images.get(base_image).tag(name, tag)
        answer = engine.api.push(name, tag=tag, auth_config=_session_registry.credentials)
        assert "error" not in answer.lower()
    return name


def test_tags_and_digests_of_what_was_pushed(registry, pushed):
    assert registry.list_tags("tests/registry") == ["1", "2"]
    assert "tests/registry" in registry.list_repositories()
    assert registry.get_digest("tests/registry", "1") == registry.get_digest("tests/registry", "2")
    assert registry.get_manifest("tests/registry", "1")["schemaVersion"] == 2
    assert registry.get_config("tests/registry", "1")["config"]["Cmd"] == ["python3"]


def test_repository_that_is_not_there_has_no_tags(registry):
    assert registry.list_tags("tests/nothing") == []


def test_wrong_password_is_refused(registry):
    answer = requests.get(f"http://{registry.server}/v2/", auth=("user", "wrong"), timeout=10)

    assert answer.status_code == 401


def test_deleted_image_is_gone(engine, registry, pushed):
    engine.images.get(f"{pushed}:1").tag(f"{registry.server}/tests/gone", "1")
    engine.api.push(f"{registry.server}/tests/gone", tag="1", auth_config=registry.credentials)

    registry.delete("tests/gone", "1")

    assert registry.list_tags("tests/gone") == []


def test_outage_keeps_the_images(engine, registry, pushed):
    registry.stop()
    with pytest.raises(APIError):
        engine.api.pull(pushed, tag="1", auth_config=registry.credentials)

    registry.start()

    assert registry.list_tags("tests/registry") == ["1", "2"]


def test_outage_ends_with_the_test_that_made_it(registry):
    assert registry.answers()
