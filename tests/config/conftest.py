"""A project with settings, and both of PyYAML's parsers."""

import pytest
import yaml

from tests.config.sample_settings import FIRST, write


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "wf.py").touch()
    write(tmp_path, FIRST)
    return tmp_path


@pytest.fixture(params=["C", "Python"])
def _loader(request, monkeypatch):
    if request.param == "Python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("this PyYAML has no C loader")
