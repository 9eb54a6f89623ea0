"""Which distribution a module comes from."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from fftasks.codehash import code_origin as distribution
from fftasks.codehash.code_origin import is_installed_path, is_standard, read_distributions


@pytest.fixture(autouse=True)
def _fresh():
    read_distributions.cache_clear()
    yield
    read_distributions.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of installed packages that is the only one."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def install(folder: Path, name: str, version: str, **files: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, text in files.items():
        (info / file.replace("__", ".")).write_text(text)


def test_modules_of_this_environment():
    tops = read_distributions().tops

    assert tops["_pytest"] == [f"pytest {metadata.version('pytest')}"]
    assert tops["yaml"] == [f"PyYAML {metadata.version('pyyaml')}"]


def test_top_level_text_names_modules(folder: Path):
    install(folder, "one", "1.0", top_level__txt="a\nb\n")

    assert read_distributions().tops == {"a": ["one 1.0"], "b": ["one 1.0"]}


def test_list_of_files_names_modules(folder: Path):
    install(
        folder,
        "one",
        "1.0",
        RECORD="a/__init__.py,,\nb.py,,\nc.cpython-311-x86_64-linux-gnu.so,,\n../../bin/d,,\n"
        "one-1.0.dist-info/METADATA,,\na/data.txt,,\n__pycache__/b.cpython-311.pyc,,\n",
    )

    assert set(read_distributions().tops) == {"a", "b", "c"}


def test_distributions_in_an_older_form_are_known(folder: Path):
    info = folder / "one.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 1.1\nName: one\nVersion: 1.0\n")
    (info / "SOURCES.txt").write_text("setup.py\na/__init__.py\n")

    assert read_distributions().tops.keys() >= {"a"}


def test_one_module_of_two_distributions_counts_with_both(folder: Path):
    install(folder, "one", "1.0", top_level__txt="a\n")
    install(folder, "two", "2.0", RECORD="a/b.py,,\n")

    assert read_distributions().tops == {"a": ["one 1.0", "two 2.0"]}


def test_folder_left_half_removed_is_no_distribution(folder: Path):
    (folder / "one-1.0.dist-info").mkdir()

    assert read_distributions().tops == {}


def test_editable_distribution_has_a_source(folder: Path):
    source = folder / "my code"
    (source / "src").mkdir(parents=True)
    origin = {"url": source.as_uri(), "dir_info": {"editable": True}}
    install(folder, "one", "1.0", direct_url__json=json.dumps(origin))
    install(folder, "two", "1.0", direct_url__json=json.dumps({"url": "file:///x"}))
    install(folder, "three", "1.0", direct_url__json="{")

    assert read_distributions().editable == [str(source), str(source / "src")]


def test_answer_is_kept_until_something_is_installed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    install(folder, "one", "1.0", top_level__txt="a\n")
    cache = folder / "cache.json"
    first = read_distributions(cache).tops
    read_distributions.cache_clear()

    with monkeypatch.context() as patch:
        patch.setattr(distribution, "_read_all", None)
        kept = read_distributions(cache).tops
    read_distributions.cache_clear()
    install(folder, "two", "1.0", top_level__txt="b\n")

    assert first == kept == {"a": ["one 1.0"]}
    assert read_distributions(cache).tops == {"a": ["one 1.0"], "b": ["two 1.0"]}


def test_cache_that_cannot_be_written_harms_nobody(folder: Path):
    install(folder, "one", "1.0", top_level__txt="a\n")
    (folder / "file").write_text("")

    assert read_distributions(folder / "file" / "cache.json").tops == {"a": ["one 1.0"]}


def test_kinds_of_modules():
    assert is_standard("json")
    assert not is_standard("numpy")
    assert is_installed_path(Path("/usr/lib/python3/dist-packages/a.py"))
    assert not is_installed_path(Path("/home/me/packages/a.py"))
