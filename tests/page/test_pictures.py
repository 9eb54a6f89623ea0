"""Results that are pictures: what is drawn of them, and that nothing of the user's stops the page."""

import base64

import matplotlib.figure
import pytest

from fftasks.page.pictures import (
    Drawable,
    draw_value,
    make_pages,
    may_be_picture,
    read_pages,
    render_pictures,
)
from fftasks.project import open_project
from fftasks.runtime.artifact import write_artifact
from tests.sample import Sample

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


class Drawn:
    def _repr_png_(self):
        return PNG


@pytest.mark.parametrize(
    ("value", "url"),
    [
        (PNG, URL),
        (Drawn(), URL),
        (b"\xff\xd8\xff rest", "data:image/jpeg;base64,/9j/IHJlc3Q="),
        (b"no picture", ""),
        (5, ""),
        (PNG + b"x" * 5_000_000, ""),  # too large for a page
    ],
)
def test_bytes_and_what_draws_itself_become_addresses(value, url):
    assert draw_value(value) == url


def test_a_figure_is_drawn():
    assert draw_value(matplotlib.figure.Figure()).startswith("data:image/png;base64,iVBOR")


@pytest.mark.parametrize(
    ("preview", "picture"),
    [("<Figure size 640x480>", True), (repr(PNG), True), ("b'text'", False), ("[1, 2]", False)],
)
def test_only_what_looks_like_a_picture_is_loaded(preview, picture):
    assert may_be_picture(preview) is picture


def test_a_value_that_cannot_be_drawn_stops_no_other(tmp_path):
    sample = Sample.make(tmp_path, "")
    good, bad = tmp_path / "good", tmp_path / "bad"
    write_artifact(good, PNG)
    bad.write_bytes(b"damaged")
    results = [Drawable(name, "wf.py", tmp_path / name) for name in ("bad", "good", "gone")]

    assert render_pictures(open_project(sample.root), results) == {"good": (URL,)}
    assert render_pictures(open_project(sample.root), results[2:]) == {}


@pytest.mark.parametrize("text", ["{", "[1]", "5", '{"a": "text"}'])
def test_what_are_no_metrics_are_none(text):
    assert make_pages({"metrics.json": text}).metrics == {}


def test_files_that_are_there_are_read(tmp_path):
    (tmp_path / "page.md").write_text("# T")
    (tmp_path / "metrics.json").write_text('{"a": 1}')

    pages = read_pages([tmp_path / name for name in ("page.md", "metrics.json", "page.html")])

    assert (pages.text, pages.metrics) == ("# T", {"a": 1})
