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
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fftasks.runtime.regular import make_folder, open_new

FILES = {
    "metrics": "metrics.json",
    "classification": "classification.json",
    "markdown": "page.md",
    "html": "page.html",
}
_MAGIC = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
_PNG_HEADER, _PNG_END = b"\0\0\0\rIHDR", b"\0\0\0\0IEND\xae\x42\x60\x82"
_GIF_HEADER = 13  # bytes
_PAGES, _FIGURES = "fftasks.workflow.page", "matplotlib.figure"
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
    from fftasks.runtime.picture import draw_classification
    from fftasks.workflow.page import ConfusionMatrix

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
    from fftasks.runtime.picture import join_pages

    if text := join_pages(found):
        yield FILES["html"], text
