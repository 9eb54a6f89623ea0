"""Write files that display a result and that can be read without loading Python objects.

The process that ran the node calls this module when the node ends. The programs that show results later (the
HTML report, the board, the web UI of KFP) read only these files, and never unpickle an artifact.

file                 kind            what
metrics.json         metrics         {name: number}
classification.json  classification  {"confusionMatrix": …, "confidenceMetrics": …}, as KFP has them
classification.html                  the same, drawn
page.md              markdown        the text, or all texts one after the other
page.html            html            the page, or all pages, figures and pictures below each other

A figure is a matplotlib figure. A picture is an object with `_repr_png_`, such as an image of Pillow, or
bytes that begin like a PNG, JPEG or GIF file. page.html contains both as data: URLs.

A task of several nodes has one file of each kind, joined from those of its nodes:

kind             joined file
metrics          "<node> <name>": number, for each number of each node
classification   the first node's; those of the other nodes are drawn in the HTML page
markdown         all texts, each below the node's name
html             all pages, each below the node's name

The pack of inner values also contains the file of each node, so that a node that is reused in a later run
displays the same.
"""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fftasks.runner.artifact import ArtifactLocation, StoredValue
from fftasks.state_folder import make_folder, open_new

if TYPE_CHECKING:
    from fftasks.api.display import ConfusionMatrix, Roc

DISPLAY_FILES = {
    "metrics": "metrics.json",
    "classification": "classification.json",
    "markdown": "page.md",
    "html": "page.html",
}
_MAGIC = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
_PNG_HEADER, _PNG_END = b"\0\0\0\rIHDR", b"\0\0\0\0IEND\xae\x42\x60\x82"
_GIF_HEADER = 13  # bytes
_PAGES, _FIGURES = "fftasks.api.display", "matplotlib.figure"
_DRAWN_CLASSIFICATION = "classification.html"
DISPLAY_FILE_NAMES = frozenset({*DISPLAY_FILES.values(), _DRAWN_CLASSIFICATION})
_MAX_VISITED = 100_000
_MAX_VISITED_FOR_PICTURES = 1000  # if the result cannot contain a page or a figure; takes 0.1 ms
_PLAIN = frozenset({int, float, bool, str, complex, type(None)})  # exact types, not subclasses
_CONTAINERS: tuple[Any, ...] = (dict, list, tuple, set, frozenset)
_MAX_POINTS = 200  # of a curve: they are stored with the run, and a screen shows no more
_MAX_PICTURE_BYTES = 1_500_000
_MAX_PICTURES = 24  # of one result
_MAX_PICTURES_LENGTH = 20_000_000  # characters of the pictures of one result
_PICTURE = '<img alt="picture" '
_MAX_PIXELS = 4_000_000  # compressing them takes about 0.3 s
_HEAD = (
    '<!doctype html><meta charset="utf-8"><style>body{font:14px sans-serif;margin:1em}'
    "table{border-collapse:collapse}td,th{padding:.3em .6em;text-align:right}img{max-width:100%}"
    "iframe{border:0;width:100%;height:80vh}</style>\n"
)
_OUTPUT_PREFIX = "page "  # of the name of a display file among a node's outputs in a pack
_MAX_METRICS = 500  # of a task: the metadata store has a row for each
_METADATA_KINDS = ("metrics", "classification")  # kinds that KFP displays from metadata

PageValues = Mapping[tuple[str, str], StoredValue]  # node and output -> value
_Texts = Mapping[str, str]  # name of a file -> its text


class FoundDisplay(NamedTuple):
    """A value of a result that can be displayed.

    Attributes:
        label: Path to the value in the result: "" for the result itself, "train", "0 scores".
        page: The value: a page of fftasks, a figure or a picture.
    """

    label: str
    page: Any


def write_pages(result: Any, path: str | Path) -> list[str]:
    """Write the files that display a result.

    A figure or a picture that cannot be drawn is reported on standard output; the node does not fail.

    Args:
        result: What the node's function returned.
        path: Folder for the files; it is created if there is a file to write.

    Returns:
        The names of the files; none for most results.
    """
    texts = dict(_make_files(find_pages(result)))
    if texts:
        make_folder(path)
        for name, text in texts.items():
            with open(open_new(Path(path) / name), "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write(text)
    return list(texts)


def find_pages(result: Any) -> list[FoundDisplay]:
    """Return the values of a result that can be displayed, at any depth of lists, tuples, dicts and sets."""
    if type(result) in _PLAIN:
        return []
    can_have_pages = _PAGES in sys.modules or _FIGURES in sys.modules
    return list(_walk(result, _MAX_VISITED if can_have_pages else _MAX_VISITED_FOR_PICTURES))


def _walk(result: Any, max_visited: int) -> Iterator[FoundDisplay]:
    """Yield the values that can be displayed; containers are skipped after `max_visited` values.

    Containers are read with the methods of the built-in types, because those of a subclass may do anything.
    """
    queue: list[tuple[tuple[Any, ...], Any]] = [((), result)]
    seen: set[int] = set()
    visited = 0
    while queue:
        keys, value = queue.pop()
        if find_display_kind(value):
            yield FoundDisplay(_make_label(keys), value)
            continue
        base = next((kind for kind in _CONTAINERS if issubclass(type(value), kind)), None)
        if base is None or id(value) in seen:
            continue
        seen.add(id(value))
        visited += base.__len__(value)
        if visited > max_visited:
            continue  # a container this large is data, not a collection of values to display
        items = dict.items(value) if base is dict else enumerate(base.__iter__(value))
        queue += reversed([((*keys, k), item) for k, item in items if type(item) not in _PLAIN])


def _make_label(keys: Sequence[Any]) -> str:
    try:
        return " ".join(map(str, keys)).strip()
    except Exception as error:  # noqa: BLE001 - the __str__ of the user's key may raise anything
        return f"(str raised {type(error).__name__})"


def find_display_kind(value: Any) -> str | None:
    """Return the kind of page that displays a value; None if it is not displayed."""
    for each in type(value).__mro__:
        if (each.__module__, each.__name__) == (_FIGURES, "Figure"):
            return "html"
        if (each.__module__, each.__name__) == (_PAGES, "DisplayValue"):
            kind: str = value.kind
            return kind
    return "html" if is_picture(value) else None


def is_picture(value: Any) -> bool:
    """Return whether a value is a picture: bytes of a PNG, JPEG or GIF file, or an object with _repr_png_."""
    if type(value) is bytes:
        return find_image_type(value) is not None
    # the type is searched because an instance may have any attribute, as mocks do
    return callable(getattr(type(value), "_repr_png_", None)) and not _is_figure(value)


def _is_figure(value: Any) -> bool:
    return any((c.__module__, c.__name__) == (_FIGURES, "Figure") for c in type(value).__mro__)


def find_image_type(content: bytes) -> str | None:
    """Return "png", "jpeg" or "gif" for bytes with the structure of such a file; None for others.

    The function checks the header with the size of the picture, and the end marker.
    """
    kind = next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)
    if kind == "png":
        is_whole = content[8:16] == _PNG_HEADER and content.find(_PNG_END, 33) > 0
        is_right = is_whole and all(struct.unpack(">II", content[16:24]))
    elif kind == "gif":
        is_whole = content[4:6] in (b"7a", b"9a") and content.rstrip(b"\0").endswith(b";")
        is_right = (
            is_whole and len(content) > _GIF_HEADER and all(struct.unpack("<HH", content[6:10]))
        )
    else:
        is_right = kind is not None and content.rfind(b"\xff\xd9") > 0
    return kind if is_right else None


def _make_files(found: Sequence[FoundDisplay]) -> Iterator[tuple[str, str]]:
    """Yield name and text of the files that display the values found in a result."""
    makers: dict[str, Callable[[Sequence[FoundDisplay]], Iterator[tuple[str, str]]]] = {
        "metrics": _make_metrics,
        "classification": _make_classification,
        "markdown": _make_markdown,
        "html": _make_html,
    }
    for kind, make in makers.items():
        chosen = [each for each in found if find_display_kind(each.page) == kind]
        if chosen:
            yield from make(chosen)


def _make_metrics(found: Sequence[FoundDisplay]) -> Iterator[tuple[str, str]]:
    metrics: dict[str, Any] = {}
    for label, page in found:
        prefix = f"{label} " if len(found) > 1 else ""
        metrics |= {
            f"{prefix}{name}".strip(): _convert_number(value) for name, value in page.items()
        }
    yield DISPLAY_FILES["metrics"], json.dumps(metrics, indent=1)


def _convert_number(value: Any) -> Any:
    """Return a value as a JSON number or string; nan and inf become strings."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _make_classification(found: Sequence[FoundDisplay]) -> Iterator[tuple[str, str]]:
    from fftasks.api.display import ConfusionMatrix

    matrices = [each for each in found if isinstance(each.page, ConfusionMatrix)]
    curves = [each for each in found if not isinstance(each.page, ConfusionMatrix)]
    for what, pages in (("confusion matrices", matrices), ("ROC curves", curves)):
        if len(pages) > 1:
            print(f"{len(pages)} {what}: Kubeflow Pipelines' page shows the first of a node")
    content: dict[str, Any] = {}
    if matrices:
        content["confusionMatrix"] = describe_matrix(matrices[0].page)
    if curves:
        content["confidenceMetrics"] = describe_curve(curves[0].page)
    yield DISPLAY_FILES["classification"], json.dumps(content, indent=1)
    yield _DRAWN_CLASSIFICATION, draw_classification(found)


def describe_matrix(page: Any) -> dict[str, Any]:
    """Return a confusion matrix in the format of kfp's ClassificationMetrics."""
    return {
        "annotationSpecs": [{"displayName": label} for label in page.labels],
        "rows": [{"row": list(map(_convert_number, row))} for row in page.rows],
    }


def describe_curve(page: Any) -> list[dict[str, float]]:
    """Return an ROC curve in the format of kfp's ClassificationMetrics, with at most about 200 points."""
    points = list(
        zip(page.thresholds, page.true_positive_rate, page.false_positive_rate, strict=True)
    )
    step = max(1, math.ceil(len(points) / _MAX_POINTS))
    sampled = [*points[::step], *(points[-1:] if (len(points) - 1) % step else [])]
    finite = [threshold for threshold, *_ in points if math.isfinite(threshold)]
    highest = max(finite, default=0.0) + 1  # scikit-learn's first threshold is infinite
    return [
        {
            "confidenceThreshold": threshold if math.isfinite(threshold) else highest,
            "recall": recall,
            "falsePositiveRate": rate,
        }
        for threshold, recall, rate in sampled
    ]


def _make_markdown(found: Sequence[FoundDisplay]) -> Iterator[tuple[str, str]]:
    texts = [f"## {label}\n\n{page}" if len(found) > 1 else str(page) for label, page in found]
    yield DISPLAY_FILES["markdown"], "\n\n".join(texts)


def _make_html(found: Sequence[FoundDisplay]) -> Iterator[tuple[str, str]]:
    if text := join_pages(found):
        yield DISPLAY_FILES["html"], text


def join_pages(found: Sequence[FoundDisplay]) -> str:
    """Return one HTML page with all pieces of HTML, figures and pictures.

    A single complete page is returned unchanged. If nothing can be drawn, the result is "".
    """
    parts: list[tuple[str, str]] = []
    left, pictures, dropped = _MAX_PICTURES_LENGTH, 0, 0
    for label, page in found:
        pictures += is_picture(page)
        if is_picture(page) and pictures > _MAX_PICTURES:
            dropped += 1
            continue
        part = _embed(page)
        left -= len(part) if part.startswith(_PICTURE) else 0
        if part and (left >= 0 or not part.startswith(_PICTURE)):
            parts.append((label, part))
        else:
            dropped += bool(part)
    if dropped:
        note = (
            f"{dropped} of {pictures} pictures are not shown: a page takes {_MAX_PICTURES} pictures,"
            f" and {_MAX_PICTURES_LENGTH:,} characters of them"
        )
        print(note)
        parts.append(("", f"<p>{note}</p>"))
    if len(parts) == 1:
        ((_, part),) = parts
        return part if _is_whole(part) else _HEAD + part
    pieces = [f"<h2>{escape(label)}</h2>\n{_enclose(part)}" for label, part in parts]
    return _HEAD + "\n".join(pieces) if pieces else ""


def draw_classification(found: Sequence[FoundDisplay]) -> str:
    """Return a page with confusion matrices as tables and ROC curves as drawings."""
    pieces = []
    for label, page in found:
        drawn = _draw_matrix(page) if hasattr(page, "rows") else _draw_curve(page)
        pieces.append(f"<h2>{escape(label)}</h2>\n{drawn}" if label else drawn)
    return _HEAD + "\n".join(pieces)


def _embed(page: Any) -> str:
    """Return HTML for a piece of HTML, a figure or a picture; "" for a picture without an image."""
    if isinstance(page, str):
        return str(page)
    if is_picture(page):
        return _embed_picture(page)
    content = io.BytesIO()
    try:
        # without the version of matplotlib in it, equal figures are equal files
        page.savefig(content, format="png", bbox_inches="tight", metadata={"Software": None})
    except Exception as error:  # noqa: BLE001 - any error of the user's figure
        print(f"a figure cannot be drawn: {type(error).__name__}: {error}")
        return f"<p>the figure cannot be drawn: {escape(f'{type(error).__name__}: {error}')}</p>"
    return _format_image("figure", "png", content.getvalue())


def _embed_picture(value: Any) -> str:
    """Return a picture as an <img>, or the reason why it is not shown; "" if it has no image."""
    try:
        content = value if type(value) is bytes else _read_image(value)
    except _TooLargeError as error:
        return _report_problem(str(error))
    except Exception as error:  # noqa: BLE001 - any error of the user's object
        return _report_problem(f"a picture cannot be drawn: {type(error).__name__}: {error}")
    if len(content) > _MAX_PICTURE_BYTES:
        return _report_problem(
            f"a picture of {len(content):,} bytes is not shown: pages take {_MAX_PICTURE_BYTES:,}"
        )
    kind = find_image_type(content)
    return _format_image("picture", kind, content) if kind else ""


def _report_problem(problem: str) -> str:
    """Print why a picture is not shown, and return it as a piece of the page."""
    print(problem)
    return f"<p>{escape(problem)}</p>"


class _TooLargeError(Exception):
    """A picture has more pixels than a page takes."""


def _read_image(value: Any) -> bytes:
    """Return the PNG file of an object with _repr_png_; b"" if the method returns none."""
    size = getattr(value, "size", None)  # Pillow: width and height
    if isinstance(size, tuple) and len(size) == 2 and size[0] * size[1] > _MAX_PIXELS:  # noqa: PLR2004
        problem = (
            f"a picture of {size[0]} x {size[1]} pixels is not shown: pages take {_MAX_PIXELS:,}"
        )
        raise _TooLargeError(problem)
    drawn = type(value)._repr_png_(value)
    if isinstance(drawn, tuple):  # as in notebooks, the result may be (content, metadata)
        drawn = drawn[0]
    if isinstance(drawn, str):  # base64, as IPython.display.Image returns it
        drawn = base64.b64decode(drawn)
    return drawn if isinstance(drawn, bytes) else b""


def _format_image(what: str, kind: str, content: bytes) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="{what}" src="data:image/{kind};base64,{data}">'


def _is_whole(part: str) -> bool:
    return part.lstrip()[:9].lower().startswith(("<!doctype", "<html"))


def _enclose(part: str) -> str:
    return f'<iframe srcdoc="{escape(part)}"></iframe>' if _is_whole(part) else part


def _draw_matrix(page: ConfusionMatrix) -> str:
    highest = max((max(row) for row in page.rows), default=0) or 1
    head = "".join(f"<th>{escape(label)}</th>" for label in page.labels)
    lines = []
    for label, row in zip(page.labels, page.rows, strict=True):
        cells = "".join(
            f'<td style="background:rgba(31,119,180,{max(value, 0) / highest:.2f})">{value:g}</td>'
            for value in row
        )
        lines.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>\n" + "\n".join(lines) + "\n</table>"


def _draw_curve(page: Roc) -> str:
    pairs = zip(page.false_positive_rate, page.true_positive_rate, strict=True)
    points = " ".join(f"{300 * x:.1f},{300 - 300 * y:.1f}" for x, y in pairs)
    return (
        '<svg width="340" height="340" viewBox="-30 -10 340 340" fill="none" font-size="12">'
        '<rect width="300" height="300" stroke="#888"/><path d="M0 300L300 0" stroke="#ccc"/>'
        f'<polyline points="{points}" stroke="#1f77b4" stroke-width="2"/>'
        '<text x="90" y="318" fill="#333">false positive rate</text>'
        '<text x="-10" y="220" fill="#333" transform="rotate(-90 -10 220)">true positive rate</text></svg>'
    )


def list_values(pages: Mapping[str, Path]) -> dict[tuple[str, str], StoredValue]:
    """Return the display files of nodes as values for a pack.

    Args:
        pages: Node -> folder with its files.
    """
    return {
        (node, _OUTPUT_PREFIX + file.name): StoredValue(ArtifactLocation(str(file)), "")
        for node, folder in pages.items()
        for file in sorted(folder.iterdir())
    }


def is_display_output(output: str) -> bool:
    """Return whether an output in a pack is a display file; its name says so."""
    return output.startswith(_OUTPUT_PREFIX)


def write_display_files(
    nodes: Sequence[str], values: PageValues, outputs: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Write the outputs of a task that display the results of its nodes.

    Args:
        nodes: The nodes of the task.
        values: Node and output -> value, display files included.
        outputs: Output of the task -> path. Outputs that are not display files are ignored.

    Returns:
        Output -> its metadata.
    """
    texts: dict[str, dict[str, str]] = {node: {} for node in nodes}  # node -> file -> text
    for (node, output), value in values.items():
        if node in texts and is_display_output(output):
            with Path(value.place.path).open("rb") as file:
                file.seek(value.place.offset)
                text = file.read(value.place.length).decode("utf-8", "replace")
            texts[node][output.removeprefix(_OUTPUT_PREFIX)] = text
    texts = {node: found for node, found in texts.items() if found}
    metadata: dict[str, dict[str, Any]] = {}
    for kind, name in DISPLAY_FILES.items():
        if kind not in outputs:
            continue
        if len(nodes) > 1:
            text = _join_texts(kind, texts)
        else:
            text = next((found.get(name, "") for found in texts.values()), "")
        text = text or "The functions returned nothing to be shown here.\n"
        Path(outputs[kind]).write_text(text, "utf-8")
        is_json = text.startswith("{") and kind in _METADATA_KINDS
        metadata[kind] = json.loads(text) if is_json else {}
        if kind == "classification" and metadata[kind]:
            node = next(node for node, found in texts.items() if name in found)
            metadata[kind]["display_name"] = f"{node} ({kind})"
    return metadata


def _join_texts(kind: str, texts: Mapping[str, _Texts]) -> str:
    """Return the display file of a kind for several nodes; "" if no node has one."""
    if kind == "metrics":
        return _join_metrics(texts)
    if kind == "html":
        return _join_html(texts)
    of_kind = _list_texts(DISPLAY_FILES[kind], texts)
    if kind == "classification":
        return of_kind[0][1] if of_kind else ""
    return "\n\n".join(f"## {node}\n\n{text}" for node, text in of_kind)


def _list_texts(name: str, texts: Mapping[str, _Texts]) -> list[tuple[str, str]]:
    """Return the nodes that have a file, with its text."""
    return [(node, found[name]) for node, found in texts.items() if name in found]


def _join_metrics(texts: Mapping[str, _Texts]) -> str:
    metrics = {
        f"{node} {name}": value
        for node, text in _list_texts(DISPLAY_FILES["metrics"], texts)
        for name, value in json.loads(text).items()
    }
    if len(metrics) > _MAX_METRICS:
        print(f"{len(metrics)} metrics: Kubeflow Pipelines' page shows the first {_MAX_METRICS}")
    return json.dumps(dict(list(metrics.items())[:_MAX_METRICS]), indent=1) if metrics else ""


def _join_html(texts: Mapping[str, _Texts]) -> str:
    """Return one page with a frame for each node's page, because each page has its own style."""
    several = len(_list_texts(_DRAWN_CLASSIFICATION, texts)) > 1
    parts = [
        (node, found[name])
        for node, found in texts.items()
        for name in (DISPLAY_FILES["html"], *((_DRAWN_CLASSIFICATION,) if several else ()))
        if name in found
    ]
    return "\n".join(
        f'<h2>{escape(node)}</h2>\n<iframe style="border:0;width:100%;height:80vh" '
        f'srcdoc="{escape(text)}"></iframe>'
        for node, text in parts
    )
