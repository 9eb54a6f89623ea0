"""What results have for people: documents in which nothing runs."""

import pytest

from fftasks.page.documents import (
    draw_classification,
    find_pictures,
    make_documents,
    render_markdown,
)
from fftasks.runtime.show import FILES

PICTURE = "data:image/png;base64,AAAA"
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
        FILES["markdown"]: "# T",
        FILES["html"]: "<p>x</p>",
        "classification.html": "<table>",
    }

    found = make_documents(files)

    assert [one.title for one in found] == ["Text", "Page", "Classification"]
    assert "<h1>T</h1>" in found[0].html


def test_a_page_of_figures_alone_is_its_pictures():
    assert find_pictures(FIGURE) == (PICTURE,)
    assert find_pictures(FIGURE + "<p>and a text</p>") == ()
    assert make_documents({FILES["html"]: FIGURE}) == ()


def test_what_is_too_large_is_left_out():
    assert make_documents({FILES["html"]: "x" * 1_500_001}) == ()


def test_markup_and_links_to_what_is_no_page_stay_text():
    html = render_markdown("<b>x</b> [a](javascript:alert(1))\n\n| a |\n|---|\n| ~~b~~ |")

    assert "&lt;b&gt;" in html
    assert "href" not in html
    assert "<td><s>b</s></td>" in html


def test_what_kubeflow_pipelines_has_of_a_classification_is_drawn():
    assert "<th>cat</th>" in draw_classification(MATRIX)
    assert "<svg" in draw_classification(CURVE)
    assert draw_classification({}) == ""


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
    assert draw_classification(content) == ""
