"""The base is looked up once, and its record says for which name and platform."""

from __future__ import annotations

import pytest

from fftasks.errors import SettingsError
from fftasks.image import base
from fftasks.image.base import BaseImage

IMAGE = "sha256:" + "ab" * 32
REFERENCE = "python@sha256:" + "cd" * 32


def make(tmp_path, name="python:3.11", calls=None) -> dict:
    def resolve(*args, **named):
        (calls if calls is not None else []).append((args, named))
        return BaseImage(IMAGE, REFERENCE)

    return base.resolve_base(
        name, "linux/amd64", resolve=resolve, origin="config/x.yaml:3", log=tmp_path / "log"
    )


def test_record(tmp_path):
    calls = []

    record = make(tmp_path, calls=calls)

    assert record == {
        "stage": "base",
        "version": base.BASE_VERSION,
        "inputs": {"base": "python:3.11", "platform": "linux/amd64"},
        "output": IMAGE,
        "reference": REFERENCE,
    }
    named = {"origin": "config/x.yaml:3", "log": tmp_path / "log", "update": False}
    assert calls == [(("python:3.11", "linux/amd64"), named)]


def test_record_is_for_one_name_and_platform(tmp_path):
    record = make(tmp_path)

    assert base.read_base_record(record, "python:3.11", "linux/amd64") == BaseImage(
        IMAGE, REFERENCE
    )
    assert base.read_base_record(record, "python:3.12", "linux/amd64") is None
    assert base.read_base_record(record, "python:3.11", "linux/arm64") is None
    assert base.read_base_record({**record, "version": 0}, "python:3.11", "linux/amd64") is None
    assert base.read_base_record(None, "python:3.11", "linux/amd64") is None


def test_no_name_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match=r"image\.base is empty"):
        make(tmp_path, name=" ")


@pytest.mark.parametrize(
    ("origin", "described"),
    [
        ("", ""),
        ("default", " (the built-in default)"),
        ("config/prod.yaml:3", " (set in config/prod.yaml:3)"),
    ],
)
def test_a_message_names_the_place_where_the_base_was_set(origin, described):
    assert base.describe_origin(origin) == described
