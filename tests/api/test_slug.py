"""Slugs: legal, and different for different names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftasks.api.names import make_slug


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("node1", "node1"),
        ("load_data_0000", "load-data-0000"),
        ("Load data", "load-data-3ecbd0d4bbca"),
        ("../up", "up-8ac8ba84f4bd"),
        ("a__b", "a-b-8a8a0b3d4b34"),
        ("load-data", "load-data-9cb8ab2cd4a1"),
    ],
)
def test_slugs(name, slug):
    prefix = re.sub(r"-[0-9a-f]{12}$", "", slug)

    assert make_slug(name) == slug or make_slug(name).startswith(f"{prefix}-")


@given(st.text(min_size=1, max_size=80))
def test_slugs_are_legal_for_files_doit_and_kubernetes(name):
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?", make_slug(name))


@given(st.lists(st.text(alphabet="aA_-. 0f", max_size=6), unique=True))
def test_different_names_have_different_slugs(names):
    assert len({make_slug(name) for name in names}) == len(names)


def test_a_name_that_looks_like_a_slug_does_not_take_it():
    slug = make_slug("Load data")

    assert make_slug(slug.replace("-", "_")) != slug
