"""Read the files that display results: metrics, Markdown, HTML documents and pictures.

runtime/show.py wrote these files when their nodes ended. They are untrusted: they may have been edited since,
and those of a run on the cluster come from a bucket. A page executes nothing in them and shows documents in
frames without scripts. It reads each file up to a size limit, and ignores invalid content.
"""

from __future__ import annotations

import base64
import functools
import html
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
_LONGEST_MARKDOWN = 30_000  # characters that are rendered
_MOST = 24  # pictures of a page
_MOST_NUMBERS = 500  # metrics of a result
LARGEST_FILE = 32_000_000  # bytes
_IMAGE = r"data:image/(?:png|jpeg|gif);base64,[A-Za-z0-9+/=]+"
# Pattern for the pages that runtime/picture.py writes for figures and pictures. No alternative reads beyond
# the next "<", so that the time for any text is proportional to its length.
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
    """A document: its title and its HTML."""

    title: str
    html: str


@dataclass(frozen=True)
class Pages:
    """Metrics, documents and pictures to show for a result.

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
    """Return what the files of a result show; paths that are not regular files are ignored."""
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


def read_text(path: Path, largest: int = LARGEST_FILE) -> str:
    """Return the text of a file; "" if it is not a regular file, or is too large.

    Args:
        path: File to read.
        largest: Maximum size of the file in bytes.
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
    """Return the finite numbers of a JSON object; {} for any other text, such as JSON that contains NaN."""
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return {}
    return choose_numbers(found) if isinstance(found, dict) else {}


def choose_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the first finite numbers of a mapping. JSON cannot represent NaN or infinity."""
    numbers = {str(name): value for name, value in values.items() if _is_number(value)}
    return dict(list(numbers.items())[:_MOST_NUMBERS])


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # the int is too large for a float, and for a browser
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
    """Return the pictures of a page as data: URLs; () if the page contains anything else than pictures."""
    if _FIGURES.sub("", page).strip():
        return ()
    return tuple(url for url in re.findall(_IMAGE, page)[:_MOST] if _is_image(url))


def _is_image(url: str) -> bool:
    """Return whether a data: URL is not too long and contains an image of the type that it declares."""
    head, _, data = url.partition(",")
    if len(url) > 2 * _LARGEST:
        return False
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError:
        return False
    return head == f"data:image/{find_image_type(content)};base64"


def draw_classification(content: Mapping[str, Any]) -> str:
    """Return a page for the metadata of KFP's ClassificationMetrics; "" if nothing in it is valid."""
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
        return ""  # another component wrote it, in another format


def _list_documents(files: Mapping[str, str]) -> Iterator[Document]:
    text, page = files.get(FILES["markdown"], ""), files.get(FILES["html"], "")
    if text:
        yield Document("Text", _STYLE + render_markdown(text[:_LARGEST]))
    if page and not find_pictures(page):
        yield Document("Page", page)
    if files.get("classification.html"):
        yield Document("Classification", files["classification.html"])


@functools.lru_cache(maxsize=128)  # a board makes its pages each second
def render_markdown(text: str) -> str:
    """Return Markdown as HTML; markup in it, and links to anything but pages, stay text.

    Text that is too long stays text as a whole: the parser needs up to a second for 30,000 characters that
    are written to keep it busy, and more than linearly longer for more.
    """
    from markdown_it import MarkdownIt

    if len(text) > _LONGEST_MARKDOWN:
        return f"<pre>{html.escape(text)}</pre>"
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(
        ["table", "strikethrough"]
    )
    return str(parser.render(text))
