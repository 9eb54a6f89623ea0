"""How the engine is found, and what happens where a service cannot be had."""

from __future__ import annotations

import pytest

from tests import conftest
from tests.services import engine as engines
from tests.services.missing import ServiceMissingError


def test_engine_answers(engine):
    assert engine.ping()
    assert engines.answers()


def test_engine_elsewhere_is_not_replaced_by_one_here(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")

    with pytest.raises(
        ServiceMissingError, match=r"no container engine answers at unix://.*nothing"
    ):
        engines.connect_engine()


def test_missing_engine_is_said_in_words(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)

    with pytest.raises(
        ServiceMissingError, match=r"dockerd is not installed \(Debian package: docker.io\)"
    ):
        engines.start_engine()


@pytest.mark.parametrize(
    ("required", "outcome"), [(False, pytest.skip.Exception), (True, pytest.fail.Exception)]
)
def test_missing_service_is_skipped_or_fails_where_it_is_required(monkeypatch, required, outcome):
    monkeypatch.setattr(conftest, "_ARE_REQUIRED", required)

    with pytest.raises(outcome, match="there is no tea"):
        conftest._do_without(ServiceMissingError("there is no tea"))


def test_images_of_a_session_are_removed(engine, base_image):
    engine.images.get(base_image).tag("localhost:1/tests/removed", "1")

    engines.remove_images(engine, "localhost:1/")

    assert not engine.api.images("localhost:1/tests/removed")
    assert engine.images.get(base_image)
