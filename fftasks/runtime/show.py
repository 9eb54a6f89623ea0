"""What is shown of a result, as files: Metrics, Markdown, HTML, Roc, ConfusionMatrix and figures in it.

file                 kind            what
metrics.json         metrics         {name: number}
classification.json  classification  {"confusionMatrix": …, "confidenceMetrics": …}, as KFP has them
classification.html                  the same, drawn
page.md              markdown        the text, or all texts behind each other
page.html            html            the page, or all pages and figures below each other
"""

from __future__ import annotations

import json
import math
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
_PAGES, _FIGURES = "fftasks.workflow.page", "matplotlib.figure"
_MAX_VISITED = 100_000
_MAX_POINTS = 200  # of a curve: they are stored with the run, and a screen is not wider


class Found(NamedTuple):
    """Something to be shown, and where it stands in the result: "" or "train", "0 scores"."""

    label: str
    page: Any


def write_pages(result: Any, path: str | Path) -> list[str]:
    """Write what a result has to show; return the names of the files, none for most results.

    The folder is made if it is needed. What cannot be drawn is said on standard output, and fails nothing.
    """
    found = find_pages(result)
    if not found:
        return []
    make_folder(path)
    texts = dict(_make_files(found))
    for name, text in texts.items():
        with open(open_new(Path(path) / name), "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
    return list(texts)


def find_pages(result: Any) -> list[Found]:
    """Return all that is to be shown in a result, at any depth of lists, tuples, dicts and sets."""
    if _PAGES not in sys.modules and _FIGURES not in sys.modules:
        return []  # nothing of the kind can have been made
    return list(_walk(result))


def _walk(result: Any) -> Iterator[Found]:
    queue: list[tuple[str, Any]] = [("", result)]
    seen: set[int] = set()
    while queue:
        label, value = queue.pop()
        if find_kind(value):
            yield Found(label, value)
        elif isinstance(value, (dict, list, tuple, set, frozenset)) and id(value) not in seen:
            seen.add(id(value))
            if len(queue) + len(seen) + len(value) > _MAX_VISITED:
                continue  # data, and not what somebody put together to be shown
            items = value.items() if isinstance(value, dict) else enumerate(value)
            queue += reversed([(f"{label} {key}".strip(), item) for key, item in items])


def find_kind(value: Any) -> str | None:
    """Return the kind of page that a value is, or None."""
    for each in type(value).__mro__:
        if (each.__module__, each.__name__) == (_FIGURES, "Figure"):
            return "html"
        if (each.__module__, each.__name__) == (_PAGES, "Page"):
            kind: str = value.kind
            return kind
    return None


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

    yield FILES["html"], join_pages(found)
