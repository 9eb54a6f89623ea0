"""Read the files that display results: metrics, Markdown, HTML documents and pictures.

runner/display_files.py wrote these files when their nodes ended. They are untrusted: they may have been
edited since, and the files of a run on the cluster come from a bucket. A page executes nothing in them and
shows documents in frames without scripts. It reads each file up to a size limit, and ignores invalid content.
The files of a group contain the displays of all its nodes; the split functions separate them again.
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

from fftasks.runner.display_files import DISPLAY_FILES, find_image_type

_MAX_DOCUMENT_LENGTH = 1_500_000  # characters of a document
_MAX_MARKDOWN_LENGTH = 30_000  # characters that are rendered
_MAX_PICTURES = 24  # pictures of a page
_MAX_METRICS = 500  # metrics of a result
MAX_DISPLAY_FILE_BYTES = 32_000_000  # bytes
_IMAGE = r"data:image/(?:png|jpeg|gif);base64,[A-Za-z0-9+/=]+"
# Pattern for the pages that runner/display_files.py writes for figures and pictures. No alternative reads
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


class ResultDocument(NamedTuple):
    """A document: its title and its HTML."""

    title: str
    html: str


@dataclass(frozen=True)
class ResultDisplay:
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
    documents: tuple[ResultDocument, ...] = ()


def read_result_display(paths: Sequence[Path]) -> ResultDisplay:
    """Return what the files of a result show; paths that are not regular files are ignored."""
    texts = {path.name: read_untrusted_text(path) for path in paths}
    return make_result_display({name: text for name, text in texts.items() if text})


def make_result_display(files: Mapping[str, str]) -> ResultDisplay:
    """Return what the files of a result show.

    Args:
        files: Contents of the files by their names; see runner/display_files.py.
    """
    page = files.get(DISPLAY_FILES["html"], "")
    metrics = parse_finite_numbers(files.get(DISPLAY_FILES["metrics"], ""))
    text = files.get(DISPLAY_FILES["markdown"], "")
    return ResultDisplay(metrics, text, extract_pictures(page), make_documents(files))


def read_untrusted_text(path: Path, largest: int = MAX_DISPLAY_FILE_BYTES) -> str:
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


def parse_finite_numbers(text: str) -> dict[str, float]:
    """Return the finite numbers of a JSON object; {} for any other text, such as JSON that contains NaN."""
    try:
        found = json.loads(text, parse_constant=_reject_json_constant)
    except (ValueError, RecursionError):
        return {}
    return filter_finite_numbers(found) if isinstance(found, dict) else {}


def filter_finite_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the first finite numbers of a mapping. JSON cannot represent NaN or infinity."""
    numbers = {str(name): value for name, value in values.items() if _is_number(value)}
    return dict(list(numbers.items())[:_MAX_METRICS])


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # the int is too large for a float, and for a browser
        return False


def _reject_json_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def make_documents(files: Mapping[str, str]) -> tuple[ResultDocument, ...]:
    """Return the documents of a result.

    Args:
        files: Contents of the files by their names; see runner/display_files.py.
    """
    return tuple(one for one in _list_documents(files) if len(one.html) <= _MAX_DOCUMENT_LENGTH)


def extract_pictures(page: str) -> tuple[str, ...]:
    """Return the pictures of a page as data: URLs; () if the page contains anything else than pictures."""
    if _FIGURES.sub("", page).strip():
        return ()
    return tuple(url for url in re.findall(_IMAGE, page)[:_MAX_PICTURES] if _is_image(url))


def _is_image(url: str) -> bool:
    """Return whether a data: URL is not too long and contains an image of the type that it declares."""
    head, _, data = url.partition(",")
    if len(url) > 2 * _MAX_DOCUMENT_LENGTH:
        return False
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError:
        return False
    return head == f"data:image/{find_image_type(content)};base64"


def format_classification(content: Mapping[str, Any]) -> str:
    """Return a page for the metadata of KFP's ClassificationMetrics; "" if nothing in it is valid."""
    from fftasks.api.display import ConfusionMatrix, Roc
    from fftasks.runner.display_files import FoundDisplay
    from fftasks.runner.display_files import draw_classification as draw

    found = []
    matrix = content.get("confusionMatrix")
    try:
        if matrix:
            labels = [one["displayName"] for one in matrix["annotationSpecs"]]
            rows = [list(map(float, one.get("row", ()))) for one in matrix["rows"]]
            found.append(FoundDisplay("", ConfusionMatrix(labels, rows)))
        points = content.get("confidenceMetrics")
        if points:
            names = ("falsePositiveRate", "recall", "confidenceThreshold")
            columns = [[float(point.get(name, 0)) for point in points] for name in names]
            found.append(FoundDisplay("", Roc(*columns)))
        return draw(found) if found else ""
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return ""  # another component wrote it, in another format


def _list_documents(files: Mapping[str, str]) -> Iterator[ResultDocument]:
    text, page = files.get(DISPLAY_FILES["markdown"], ""), files.get(DISPLAY_FILES["html"], "")
    if text:
        yield ResultDocument("Text", _STYLE + render_markdown(text[:_MAX_DOCUMENT_LENGTH]))
    if page and not extract_pictures(page):
        yield ResultDocument("Page", page)
    if files.get("classification.html"):
        yield ResultDocument("Classification", files["classification.html"])


@functools.lru_cache(maxsize=128)  # a board creates its page every second
def render_markdown(text: str) -> str:
    """Return Markdown as HTML. HTML in it, and links that are not http(s), are shown as text.

    A text that is too long is shown unformatted: the parser needs up to a second for 30,000 malicious
    characters, and its time grows faster than linearly.
    """
    from markdown_it import MarkdownIt

    if len(text) > _MAX_MARKDOWN_LENGTH:
        return f"<pre>{html.escape(text)}</pre>"
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(
        ["table", "strikethrough"]
    )
    return str(parser.render(text))


_FRAME = re.compile(r'<h2>([^<]*)</h2>\n<iframe [^>]*?srcdoc="([^"]*)"></iframe>')


def split_metrics_by_node(
    nodes: Sequence[str], numbers: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the metrics of each node of a group.

    Args:
        nodes: Names of the nodes.
        numbers: "<node> <name>" -> value.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, value in numbers.items():
        owners = [node for node in nodes if key.startswith(f"{node} ")]
        if owners:  # of the nodes "a" and "a b", it belongs to the longer name
            node = max(owners, key=len)
            found.setdefault(node, {})[key[len(node) + 1 :]] = value
    return found


def split_markdown_by_node(nodes: Sequence[str], text: str) -> dict[str, str]:
    """Return the Markdown of each node of a group, from sections with the names of the nodes."""
    heads = {f"## {node}": node for node in nodes}
    found: dict[str, list[str]] = {}
    now: list[str] = []
    for line in text.split("\n"):
        if line in heads and heads[line] not in found:
            now = found[heads[line]] = []
        else:
            now.append(line)
    return {node: "\n".join(lines).strip("\n") for node, lines in found.items()}


def split_html_by_node(nodes: Sequence[str], page: str) -> dict[str, list[str]]:
    """Return the HTML documents of each node of a group: its own, and the drawing of its classification."""
    found: dict[str, list[str]] = {}
    for node, document in _list_frames(page):
        if node in nodes:
            found.setdefault(node, []).append(document)
    return found


def _list_frames(page: str) -> Iterator[tuple[str, str]]:
    for name, document in _FRAME.findall(page):
        yield html.unescape(name), html.unescape(document)
