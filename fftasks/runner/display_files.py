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

Draw figures, pictures, matrices and curves as HTML, with the standard library only.

What a task of several nodes shows: the pages of its nodes, joined, one file of each kind.

kind             joined
metrics          "<node> <name>": number, for each number of each node
classification   the first node's; those of others are drawn in the page of HTML
markdown         behind each other, each below the node's name
html             the same

In the pack of inner values they are kept apart as well: a node that does not run again shows what it did.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fftasks.runner.artifact import Place, Value
from fftasks.state_folder import make_folder, open_new

if TYPE_CHECKING:
    from fftasks.api.display import ConfusionMatrix, Roc

FILES = {
    "metrics": "metrics.json",
    "classification": "classification.json",
    "markdown": "page.md",
    "html": "page.html",
}
_MAGIC = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
_PNG_HEADER, _PNG_END = b"\0\0\0\rIHDR", b"\0\0\0\0IEND\xae\x42\x60\x82"
_GIF_HEADER = 13  # bytes
_PAGES, _FIGURES = "fftasks.api.display", "matplotlib.figure"
NAMES = frozenset({*FILES.values(), "classification.html"})
_MAX_VISITED = 100_000
_MAX_VISITED_FOR_PICTURES = 1000  # of a result that can have no page and no figure: it takes 0.1 ms
_PLAIN = frozenset({int, float, bool, str, complex, type(None)})  # exact types, not subclasses
_CONTAINERS: tuple[Any, ...] = (dict, list, tuple, set, frozenset)
_MAX_POINTS = 200  # of a curve: they are stored with the run, and a screen is not wider


class Found(NamedTuple):
    """A value to be shown.

    Attributes:
        label: Path to the value in the result: "" for the result itself, "train", "0 scores".
        page: The value.
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


def find_pages(result: Any) -> list[Found]:
    """Return the values of a result that can be displayed, at any depth of lists, tuples, dicts and sets."""
    if type(result) in _PLAIN:
        return []
    can_have_pages = _PAGES in sys.modules or _FIGURES in sys.modules
    return list(_walk(result, _MAX_VISITED if can_have_pages else _MAX_VISITED_FOR_PICTURES))


def _walk(result: Any, most: int) -> Iterator[Found]:
    """Yield the values that can be displayed; containers are skipped after `most` values.

    Containers are read with the methods of the built-in types, because those of a subclass may do anything.
    """
    queue: list[tuple[tuple[Any, ...], Any]] = [((), result)]
    seen: set[int] = set()
    visited = 0
    while queue:
        keys, value = queue.pop()
        if find_kind(value):
            yield Found(_spell_label(keys), value)
            continue
        base = next((kind for kind in _CONTAINERS if issubclass(type(value), kind)), None)
        if base is None or id(value) in seen:
            continue
        seen.add(id(value))
        visited += base.__len__(value)
        if visited > most:
            continue  # a container this large is data, not a collection of values to display
        items = dict.items(value) if base is dict else enumerate(base.__iter__(value))
        queue += reversed([((*keys, k), item) for k, item in items if type(item) not in _PLAIN])


def _spell_label(keys: Sequence[Any]) -> str:
    try:
        return " ".join(map(str, keys)).strip()
    except Exception as error:  # noqa: BLE001 - the __str__ of the user's key may raise anything
        return f"(str raised {type(error).__name__})"


def find_kind(value: Any) -> str | None:
    """Return the kind of page that displays a value; None if it is not displayed."""
    for each in type(value).__mro__:
        if (each.__module__, each.__name__) == (_FIGURES, "Figure"):
            return "html"
        if (each.__module__, each.__name__) == (_PAGES, "Page"):
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

    Looked at are the header with the size of the picture, and the mark at the end.
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


def _make_files(found: Sequence[Found]) -> Iterator[tuple[str, str]]:
    makers: dict[str, Callable[[Sequence[Found]], Iterator[tuple[str, str]]]] = {
        "metrics": _make_metrics,
        "classification": _make_classification,
        "markdown": _make_markdown,
        "html": _make_html,
    }
    for kind, make in makers.items():
        chosen = [each for each in found if find_kind(each.page) == kind]
        if chosen:
            yield from make(chosen)


def _make_metrics(found: Sequence[Found]) -> Iterator[tuple[str, str]]:
    metrics: dict[str, Any] = {}
    for label, page in found:
        prefix = f"{label} " if len(found) > 1 else ""
        metrics |= {f"{prefix}{name}".strip(): _plain(value) for name, value in page.items()}
    yield FILES["metrics"], json.dumps(metrics, indent=1)


def _plain(value: Any) -> Any:
    """Return a number or text that JSON has; KFP shows nan and inf as texts."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _make_classification(found: Sequence[Found]) -> Iterator[tuple[str, str]]:
    pass
    from fftasks.api.display import ConfusionMatrix

    matrices = [each for each in found if isinstance(each.page, ConfusionMatrix)]
    curves = [each for each in found if not isinstance(each.page, ConfusionMatrix)]
    for what, several in (("confusion matrices", matrices), ("ROC curves", curves)):
        if len(several) > 1:
            print(f"{len(several)} {what}: Kubeflow Pipelines' page shows the first of a node")
    content: dict[str, Any] = {}
    if matrices:
        content["confusionMatrix"] = describe_matrix(matrices[0].page)
    if curves:
        content["confidenceMetrics"] = describe_curve(curves[0].page)
    yield FILES["classification"], json.dumps(content, indent=1)
    yield "classification.html", draw_classification(found)


def describe_matrix(page: Any) -> dict[str, Any]:
    """Return a confusion matrix as kfp's ClassificationMetrics has it."""
    return {
        "annotationSpecs": [{"displayName": label} for label in page.labels],
        "rows": [{"row": list(map(_plain, row))} for row in page.rows],
    }


def describe_curve(page: Any) -> list[dict[str, float]]:
    """Return an ROC curve as kfp's ClassificationMetrics has it; of a long one, some of its points."""
    points = list(
        zip(page.thresholds, page.true_positive_rate, page.false_positive_rate, strict=True)
    )
    step = max(1, math.ceil(len(points) / _MAX_POINTS))
    kept = [*points[::step], *(points[-1:] if (len(points) - 1) % step else [])]
    finite = [threshold for threshold, *_ in points if math.isfinite(threshold)]
    highest = max(finite, default=0.0) + 1  # scikit-learn's first threshold is infinite
    return [
        {
            "confidenceThreshold": threshold if math.isfinite(threshold) else highest,
            "recall": recall,
            "falsePositiveRate": rate,
        }
        for threshold, recall, rate in kept
    ]


def _make_markdown(found: Sequence[Found]) -> Iterator[tuple[str, str]]:
    texts = [f"## {label}\n\n{page}" if len(found) > 1 else str(page) for label, page in found]
    yield FILES["markdown"], "\n\n".join(texts)


def _make_html(found: Sequence[Found]) -> Iterator[tuple[str, str]]:
    pass

    if text := join_pages(found):
        yield FILES["html"], text


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


def join_pages(found: Sequence[Found]) -> str:
    """Return one page with all pieces of HTML, figures and pictures.

    A single complete page is returned unchanged. If nothing can be drawn, the result is "".
    """
    pass

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


def draw_classification(found: Sequence[Found]) -> str:
    """Return a page with confusion matrices as tables and ROC curves as drawings."""
    pieces = []
    for label, page in found:
        drawn = _draw_matrix(page) if hasattr(page, "rows") else _draw_curve(page)
        pieces.append(f"<h2>{escape(label)}</h2>\n{drawn}" if label else drawn)
    return _HEAD + "\n".join(pieces)


def _embed(page: Any) -> str:
    """Return HTML, a figure or a picture as a piece of a page; "" for a picture that is not shown."""
    pass

    if isinstance(page, str):
        return str(page)
    if is_picture(page):
        return _embed_picture(page)
    content = io.BytesIO()
    try:
        # without the version of matplotlib in it, equal figures are equal files
        page.savefig(content, format="png", bbox_inches="tight", metadata={"Software": None})
    except Exception as error:  # noqa: BLE001 - the border to the user's figure
        print(f"a figure cannot be drawn: {type(error).__name__}: {error}")
        return f"<p>the figure cannot be drawn: {escape(f'{type(error).__name__}: {error}')}</p>"
    return _format_image("figure", "png", content.getvalue())


def _embed_picture(value: Any) -> str:
    """Return a picture as an <img>; if it is not shown, the reason; "" if it has no image."""
    pass

    try:
        content = value if type(value) is bytes else _read_image(value)
    except _TooLargeError as error:
        return _tell(str(error))
    except Exception as error:  # noqa: BLE001 - the border to the user's object
        return _tell(f"a picture cannot be drawn: {type(error).__name__}: {error}")
    if len(content) > _MAX_PICTURE_BYTES:
        return _tell(
            f"a picture of {len(content):,} bytes is not shown: pages take {_MAX_PICTURE_BYTES:,}"
        )
    kind = find_image_type(content)
    return _format_image("picture", kind, content) if kind else ""


def _tell(problem: str) -> str:
    """Print why a picture is not shown, and return it as a piece of the page."""
    print(problem)
    return f"<p>{escape(problem)}</p>"


class _TooLargeError(Exception):
    """A picture has more pixels than a page takes."""


def _read_image(value: Any) -> bytes:
    """Return the PNG of an object with _repr_png_, b"" if it has none."""
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


_MARK = "page "  # begins the name of a file in a pack, where those of outputs stand
_MOST_NUMBERS = 500  # of a task: the metadata store has a row for each
_JSON = ("metrics", "classification")  # what Kubeflow Pipelines looks for in metadata
_DRAWN = "classification.html"

Files = Mapping[str, str]  # name of a file -> text
Values = Mapping[tuple[str, str], Value]


def list_values(pages: Mapping[str, Path]) -> dict[tuple[str, str], Value]:
    """Return the files in which nodes show their results as values of a pack; pages: node -> folder."""
    return {
        (node, _MARK + file.name): Value(Place(str(file)), "")
        for node, folder in pages.items()
        for file in sorted(folder.iterdir())
    }


def is_page(output: str) -> bool:
    """Tell whether a value of a pack is a file that is shown, by what it is called there."""
    return output.startswith(_MARK)


def write_shown(
    nodes: Sequence[str], values: Values, outputs: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Write what nodes show to the outputs that are for it; return the metadata of each of these.

    outputs: path of each output of the task
    """
    files = {node: _read_files(node, values) for node in nodes}
    files = {node: found for node, found in files.items() if found}
    join = _join if len(nodes) > 1 else _take
    metadata: dict[str, dict[str, Any]] = {}
    for kind in (kind for kind in FILES if kind in outputs):
        text = join(kind, files) or "The functions returned nothing to be shown here.\n"
        Path(outputs[kind]).write_text(text, "utf-8")
        metadata[kind] = json.loads(text) if text.startswith("{") and kind in _JSON else {}
        if kind == "classification" and metadata[kind]:
            node = next(node for node, found in files.items() if FILES[kind] in found)
            metadata[kind]["display_name"] = f"{node} ({kind})"
    return metadata


def _read_files(node: str, values: Values) -> dict[str, str]:
    return {
        output.removeprefix(_MARK): _read(value.place)
        for (owner, output), value in values.items()
        if owner == node and is_page(output)
    }


def _read(place: Place) -> str:
    with Path(place.path).open("rb") as file:
        file.seek(place.offset)
        return file.read(place.length).decode("utf-8", "replace")


def _take(kind: str, files: Mapping[str, Files]) -> str:
    return next((found.get(FILES[kind], "") for found in files.values()), "")


def _join(kind: str, files: Mapping[str, Files]) -> str:
    joiners: dict[str, Callable[[Mapping[str, Files]], str]] = {
        "metrics": _join_metrics,
        "classification": lambda files: next(_list_texts("classification.json", files), ("", ""))[
            1
        ],
        "markdown": _join_markdown,
        "html": _join_html,
    }
    return joiners[kind](files)


def _list_texts(name: str, files: Mapping[str, Files]) -> Iterator[tuple[str, str]]:
    yield from ((node, found[name]) for node, found in files.items() if name in found)


def _join_metrics(files: Mapping[str, Files]) -> str:
    numbers = {
        f"{node} {name}": value
        for node, text in _list_texts(FILES["metrics"], files)
        for name, value in json.loads(text).items()
    }
    if len(numbers) > _MOST_NUMBERS:
        print(f"{len(numbers)} metrics: Kubeflow Pipelines' page shows the first {_MOST_NUMBERS}")
    return json.dumps(dict(list(numbers.items())[:_MOST_NUMBERS]), indent=1) if numbers else ""


def _join_markdown(files: Mapping[str, Files]) -> str:
    texts = _list_texts(FILES["markdown"], files)
    return "\n\n".join(f"## {node}\n\n{text}" for node, text in texts)


def _join_html(files: Mapping[str, Files]) -> str:
    """Return one page: each node's own is whole, with a style of its own, so that it is in a frame."""
    several = len(list(_list_texts(_DRAWN, files))) > 1
    parts = [
        (node, found[name])
        for node, found in files.items()
        for name in (FILES["html"], *((_DRAWN,) if several else ()))
        if name in found
    ]
    return "\n".join(
        f'<h2>{html.escape(node)}</h2>\n<iframe style="border:0;width:100%;height:80vh" '
        f'srcdoc="{html.escape(text)}"></iframe>'
        for node, text in parts
    )
