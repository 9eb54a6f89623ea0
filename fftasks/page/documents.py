"""What results have for people, as documents for frames in which no script runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fftasks.runtime.show import FILES

_LARGEST = 1_500_000  # characters of a document
_MOST = 24  # pictures of a page
_IMAGE = r"data:image/(?:png|jpeg|gif);base64,[A-Za-z0-9+/=]+"
# what the pages consist of that runtime/picture.py makes of figures alone
_FIGURES = re.compile(
    rf'<!doctype html>|<meta[^>]*>|<style>[^<]*</style>|<h2>[^<]*</h2>|<img alt="figure" src="{_IMAGE}">'
)
_STYLE = (
    '<!doctype html><meta charset="utf-8"><style>body{font:15px/1.5 sans-serif;margin:0 .5em}'
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em}img{max-width:100%}"
    "pre,code{background:#f3f4f6}pre{padding:.5em}h1{font-size:1.4em}h2{font-size:1.2em}</style>\n"
)


class Document(NamedTuple):
    """A document: what it is, and its HTML."""

    title: str
    html: str


def make_documents(files: Mapping[str, str]) -> tuple[Document, ...]:
    """Return the documents of a result; files: as runtime/show.py writes them, by name."""
    return tuple(one for one in _list_documents(files) if len(one.html) <= _LARGEST)


def find_pictures(page: str) -> tuple[str, ...]:
    """Return the pictures of a page that has figures and nothing else, as data: URLs."""
    if _FIGURES.sub("", page).strip():
        return ()
    return tuple(url for url in re.findall(_IMAGE, page)[:_MOST] if len(url) <= 2 * _LARGEST)


def draw_classification(content: Mapping[str, Any]) -> str:
    """Return a page with what KFP's ClassificationMetrics hold, "" if that is nothing."""
    from fftasks.runtime.picture import draw_classification as draw
    from fftasks.runtime.show import Found
    from fftasks.workflow.page import ConfusionMatrix, Roc

    found = []
    matrix = content.get("confusionMatrix")
    try:
        if matrix:
            labels = [one["displayName"] for one in matrix["annotationSpecs"]]
            rows = [one.get("row", ()) for one in matrix["rows"]]
            found.append(Found("", ConfusionMatrix(labels, rows)))
        points = content.get("confidenceMetrics")
        if points:
            names = ("falsePositiveRate", "recall", "confidenceThreshold")
            columns = [[float(point.get(name, 0)) for point in points] for name in names]
            found.append(Found("", Roc(*columns)))
    except (KeyError, TypeError, ValueError):
        return ""  # somebody else's component has made it
    return draw(found) if found else ""


def _list_documents(files: Mapping[str, str]) -> Iterator[Document]:
    text, page = files.get(FILES["markdown"], ""), files.get(FILES["html"], "")
    if text:
        yield Document("Text", _STYLE + render_markdown(text[:_LARGEST]))
    if page and not find_pictures(page):
        yield Document("Page", page)
    if files.get("classification.html"):
        yield Document("Classification", files["classification.html"])


def render_markdown(text: str) -> str:
    """Return Markdown as HTML; markup in it, and links to anything but pages, stay text."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return str(parser.render(text))
