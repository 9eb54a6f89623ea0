"""What results have for people: documents in which nothing runs."""

import base64
import json
import os
import time

import pytest

from fftasks.report.result_documents import (
    extract_pictures,
    format_classification,
    make_documents,
    make_result_display,
    read_result_display,
    read_untrusted_text,
    render_markdown,
    split_html_by_node,
)
from fftasks.runner.display_files import DISPLAY_FILES

PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FIGURE = f'<!doctype html><meta charset="utf-8"><h2>a</h2><img alt="figure" src="{PICTURE}">'
CURVE = {
    "confidenceMetrics": [
        {"confidenceThreshold": 1.0},  # KFP leaves zeros out
        {"confidenceThreshold": 0.5, "recall": 0.8, "falsePositiveRate": 0.1},
    ]
}
MATRIX = {
    "confusionMatrix": {
        "annotationSpecs": [{"displayName": "cat"}, {"displayName": "dog"}],
        "rows": [{"row": [3, 1]}, {"row": [0, 2]}],
    }
}


def test_texts_pages_and_classifications_are_documents_of_their_own():
    files = {
        DISPLAY_FILES["markdown"]: "# T",
        DISPLAY_FILES["html"]: "<p>x</p>",
        "classification.html": "<table>",
    }

    found = make_documents(files)

    assert [one.title for one in found] == ["Text", "Page", "Classification"]
    assert "<h1>T</h1>" in found[0].html


def test_a_page_of_figures_alone_is_its_pictures():
    assert extract_pictures(FIGURE) == (PICTURE,)
    assert extract_pictures(FIGURE + "<p>and a text</p>") == ()
    assert make_documents({DISPLAY_FILES["html"]: FIGURE}) == ()


def test_what_is_too_large_is_left_out():
    assert make_documents({DISPLAY_FILES["html"]: "x" * 1_500_001}) == ()


def test_markup_and_links_to_what_is_no_page_stay_text():
    html = render_markdown("<b>x</b> [a](javascript:alert(1))\n\n| a |\n|---|\n| ~~b~~ |")

    assert "&lt;b&gt;" in html
    assert "href" not in html
    assert "<td><s>b</s></td>" in html


def test_what_kubeflow_pipelines_has_of_a_classification_is_drawn():
    assert "<th>cat</th>" in format_classification(MATRIX)
    assert "<svg" in format_classification(CURVE)
    assert format_classification({}) == ""


@pytest.mark.parametrize(
    "content",
    [
        {"confusionMatrix": {"rows": [{"row": [1]}]}},
        {"confusionMatrix": {"annotationSpecs": [{"displayName": "a"}], "rows": []}},
        {"confusionMatrix": 5},
        {"confidenceMetrics": [{"recall": "much"}]},
    ],
)
def test_what_somebody_elses_component_made_of_it_is_not(content):
    assert format_classification(content) == ""


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        "5",
        '{"a": "text"}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 1e999}',
        '{"a": 1' + "0" * 400 + "}",
        "[" * 100_000,
        '{"a": ' * 100_000,
    ],
)
def test_what_are_no_finite_numbers_are_no_metrics(text):
    assert make_result_display({"metrics.json": text}).metrics == {}


def test_of_endless_metrics_the_first_are_shown():
    many = {str(number): number for number in range(10_000)}

    assert len(make_result_display({"metrics.json": json.dumps(many)}).metrics) == 500


def test_files_that_are_there_are_read(tmp_path):
    (tmp_path / "page.md").write_text("# T")
    (tmp_path / "metrics.json").write_text('{"a": 1}')

    pages = read_result_display(
        [tmp_path / name for name in ("page.md", "metrics.json", "page.html")]
    )

    assert (pages.text, pages.metrics) == ("# T", {"a": 1})


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "too large", "missing", "device"])
def test_what_is_no_plain_file_of_a_sensible_size_is_not_read(tmp_path, kind):
    path, secret = tmp_path / "page.md", tmp_path / "secret"
    secret.write_text("secret")
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "too large":
        path.write_text("x")
        os.truncate(path, 40_000_000)
    elif kind == "device":
        path.symlink_to("/dev/zero")

    assert read_untrusted_text(path) == ""
    assert read_result_display([path]).text == ""


@pytest.mark.parametrize(
    "url",
    [
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:text/html;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        "data:image/png;base64," + base64.b64encode(b"<svg onload=alert(1)>").decode(),
        "data:image/gif;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=====",
        "data:image/png;base64,=",
        "https://elsewhere.test/x.png",
    ],
)
def test_a_picture_that_is_not_of_the_type_that_it_says_is_not_shown(url):
    assert extract_pictures(f'<!doctype html><img alt="picture" src="{url}">') == ()


@pytest.mark.parametrize(
    "piece",
    ["<meta", "<style>", "<h2>", '<img alt="figure" src="', "data:image/png;base64,", "<h2></h2>"],
)
def test_hostile_pages_are_read_in_time_proportional_to_their_length(piece):
    page = piece * (3_000_000 // len(piece))
    begin = time.process_time()

    extract_pictures(page)
    split_html_by_node(["a"], page)

    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    "content",
    [
        {"confusionMatrix": {"annotationSpecs": [{"displayName": "a"}], "rows": [{"row": ["x"]}]}},
        {"confusionMatrix": {"annotationSpecs": ["a"], "rows": [{"row": [1]}]}},
        {"confusionMatrix": "text"},
        {"confidenceMetrics": ["text"]},
        {"confidenceMetrics": 5},
    ],
)
def test_a_classification_that_is_not_valid_is_not_drawn(content):
    assert format_classification(content) == ""
