"""The base image: what is in it, and that it is made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services import base_image as made
from tests.services.missing import ServiceMissingError


def test_image_has_python_and_pip(engine, base_image):
    log = engine.containers.run(base_image, ["python3", "-m", "pip", "--version"], remove=True)

    assert b"python 3.11" in log


def test_pip_installs_a_package(engine, base_image):
    script = "pip install -q six && python3 -c 'import six; print(six.__name__)'"

    log = engine.containers.run(base_image, ["sh", "-c", script], remove=True)

    assert log.split() == [b"six"]


def test_image_is_made_once(engine, base_image, tmp_path):
    before = engine.images.get(base_image).id

    made.ensure_base_image(engine, tmp_path)

    assert engine.images.get(base_image).id == before
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_missing_program_is_said_in_words(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ServiceMissingError, match="debootstrap is not installed"):
        made.make_tree(tmp_path / "tree.tar")


def test_folder_of_this_machine_is_no_index_for_a_container(monkeypatch):
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///srv/simple https://pypi.example.com/simple")

    assert 'PIP_EXTRA_INDEX_URL="https://pypi.example.com/simple"' in made._list_environment()


def test_packed_tree_is_whole_or_not_there(tmp_path):
    with pytest.raises(ServiceMissingError, match="tar failed"):
        made.pack_tree(Path("/nothing/here"), tmp_path / "tree.tar")

    assert not (tmp_path / "tree.tar").exists()
