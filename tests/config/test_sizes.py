"""Sizes that users write: one parser for settings and options."""

import re

import pytest

from fftasks.config import ContextSettings, load_settings
from fftasks.config.sizes import SIZE_FORM, parse_size
from fftasks.errors import SettingsError

SIZES = [
    ("0", 0),
    ("12", 12),
    ("12B", 12),
    ("12 b", 12),
    ("10kB", 10_000),
    ("10KB", 10_000),
    ("10kb", 10_000),
    ("300K", 300_000),
    ("500MB", 500 * 10**6),
    ("500 MB", 500 * 10**6),
    (" 500mb ", 500 * 10**6),
    ("1.5 mb", 1_500_000),
    ("1.5GB", 1500 * 10**6),
    ("5gb", 5 * 10**9),
    ("5GB", 5 * 10**9),
    ("1TB", 10**12),
    ("1KiB", 1024),
    ("1kib", 1024),
    ("2Ki", 2048),
    ("5 MiB", 5 * 1024**2),
    ("1.5GiB", 1536 * 1024**2),
    ("2 TIB", 2 * 1024**4),
    ("9007199254740993", 9007199254740993),
    (ContextSettings().max_size, 500 * 10**6),
]
NOT_SIZES = [
    "",
    "MB",
    "five MB",
    "-1",
    "1e3",
    "1e9",
    "5 apples",
    "nan",
    "inf",
    "5iB",
    "5 K B",
    "1.",
    "1,5GB",
]


@pytest.mark.parametrize(("text", "size_bytes"), SIZES)
def test_a_size_has_a_number_and_a_unit(text, size_bytes):
    assert parse_size(text, "--keep") == size_bytes
    assert re.fullmatch(SIZE_FORM, text)


@pytest.mark.parametrize("text", NOT_SIZES)
def test_an_invalid_size_is_an_error_that_names_its_source(text):
    with pytest.raises(SettingsError, match=re.escape(f"context.max_size: invalid size: {text!r}")):
        parse_size(text, "context.max_size")
    assert not re.fullmatch(SIZE_FORM, text)


@pytest.mark.parametrize("text", ["5gb", "'5 GiB'", "0", '"0"', "1.5 MB"])
def test_the_setting_takes_every_size(folder, text):
    (folder / "config" / "default.yaml").write_text(
        f"workflows: [wf.py]\ncontext:\n  max_size: {text}\n"
    )

    assert load_settings(folder, environ={}).context.max_size == text.strip("'\"")


def test_an_invalid_size_is_an_error_when_the_settings_are_read(folder):
    (folder / "config" / "default.yaml").write_text(
        "workflows: [wf.py]\ncontext:\n  max_size: much\n"
    )

    with pytest.raises(SettingsError, match=r"default\.yaml:3: context\.max_size must be .*'much'"):
        load_settings(folder, environ={})
