"""Read what results show, as documents for frames in which no script runs, and as pictures.

The files were written by runtime/show.py when their nodes ended. A page takes them for data from anyone: they
may have been edited since, and those of a run on the cluster come from a bucket. Nothing in them is executed,
each is read up to a limit, and what is not of its kind is left out.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fftasks.runtime.show import FILES, find_image_type

_LARGEST = 1_500_000  # characters of a document
_MOST = 24  # pictures of a page
_MOST_NUMBERS = 500  # of a result
_LARGEST_FILE = 32_000_000  # bytes
_IMAGE = r"data:image/(?:png|jpeg|gif);base64,[A-Za-z0-9+/=]+"
# What pages consist of that runtime/picture.py makes of figures and pictures alone. No alternative reads
# beyond the next "<", so that the time for any text is proportional to its length.
_FIGURES = re.compile(
    r"<!doctype html>|<meta[^<>]*>|<style>[^<]*</style>|<h2>[^<]*</h2>"
    rf'|<img alt="(?:figure|picture)" src="{_IMAGE}">'
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


@dataclass(frozen=True)
class Pages:
    """What is shown of a result.

    Attributes:
        metrics: Finite numbers by their names.
        text: Markdown.
        pictures: Pictures as data: URLs.
        documents: Pages of HTML.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    text: str = ""
    pictures: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()


def read_pages(paths: Sequence[Path]) -> Pages:
    """Return what the files of a result show; a path that is not a plain file is left out."""
    texts = {path.name: read_text(path) for path in paths}
    return make_pages({name: text for name, text in texts.items() if text})


def make_pages(files: Mapping[str, str]) -> Pages:
    """Return what the files of a result show.

    Args:
        files: Contents of the files by their names; see runtime/show.py.
    """
    page = files.get(FILES["html"], "")
    metrics = read_numbers(files.get(FILES["metrics"], ""))
    text = files.get(FILES["markdown"], "")
    return Pages(metrics, text, find_pictures(page), make_documents(files))


def read_text(path: Path, largest: int = _LARGEST_FILE) -> str:
    """Return the text of a file; "" for a link, a pipe, a device, a folder, and a file that is too large.

    Args:
        path: File to read.
        largest: Number of bytes that the file may have.
    """
    try:
        # a pipe would block open() until someone writes to it
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > largest:
        os.close(descriptor)
        return ""
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        return file.read(largest).decode("utf-8", "replace")


def read_numbers(text: str) -> dict[str, float]:
    """Return the finite numbers of a JSON object; {} for any other text, such as JSON with a NaN."""
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return {}
    return choose_numbers(found) if isinstance(found, dict) else {}


def choose_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the first finite numbers of a mapping: a page's JSON can hold no others."""
    numbers = {str(name): value for name, value in values.items() if _is_number(value)}
    return dict(list(numbers.items())[:_MOST_NUMBERS])


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # an int that no float can hold, which no browser can show either
        return False


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def make_documents(files: Mapping[str, str]) -> tuple[Document, ...]:
    """Return the documents of a result.

    Args:
        files: Contents of the files by their names; see runtime/show.py.
    """
    return tuple(one for one in _list_documents(files) if len(one.html) <= _LARGEST)


def find_pictures(page: str) -> tuple[str, ...]:
    """Return the pictures of a page of figures and pictures as data: URLs; () if it has anything else."""
    if _FIGURES.sub("", page).strip():
        return ()
    return tuple(url for url in re.findall(_IMAGE, page)[:_MOST] if _is_image(url))


def _is_image(url: str) -> bool:
    """Return whether a data: URL of limited length has an image of the type that it says."""
    head, _, data = url.partition(",")
    if len(url) > 2 * _LARGEST:
        return False
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError:
        return False
    return head == f"data:image/{find_image_type(content)};base64"


def draw_classification(content: Mapping[str, Any]) -> str:
    """Return a page with what the metadata of KFP's ClassificationMetrics hold; "" if nothing is valid."""
    from fftasks.runtime.picture import draw_classification as draw
    from fftasks.runtime.show import Found
    from fftasks.workflow.page import ConfusionMatrix, Roc

    found = []
    matrix = content.get("confusionMatrix")
    try:
        if matrix:
            labels = [one["displayName"] for one in matrix["annotationSpecs"]]
            rows = [list(map(float, one.get("row", ()))) for one in matrix["rows"]]
            found.append(Found("", ConfusionMatrix(labels, rows)))
        points = content.get("confidenceMetrics")
        if points:
            names = ("falsePositiveRate", "recall", "confidenceThreshold")
            columns = [[float(point.get(name, 0)) for point in points] for name in names]
            found.append(Found("", Roc(*columns)))
        return draw(found) if found else ""
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return ""  # another component has written it


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
