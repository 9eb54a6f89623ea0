"""What functions return to have it shown in a page: on Kubeflow Pipelines natively, here as files.

They are ordinary values for the nodes downstream.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar


class Page:
    """A value that is shown; kind: one of KINDS."""

    kind: ClassVar[str]


# what a node may show -> the type of artifact that Kubeflow Pipelines shows it as
KINDS = {
    "metrics": "system.Metrics",
    "classification": "system.ClassificationMetrics",
    "markdown": "system.Markdown",
    "html": "system.HTML",
}


class Metrics(dict[str, Any], Page):
    """Numbers with names: `Metrics(accuracy=0.93, loss=0.1)`; a dict."""

    kind = "metrics"

    def __repr__(self) -> str:
        return f"Metrics({super().__repr__()})"


class Markdown(str, Page):
    """A text in Markdown; a str."""

    __slots__ = ()
    kind = "markdown"


class HTML(str, Page):
    """A page or a piece of one in HTML; a str."""

    __slots__ = ()
    kind = "html"


@dataclass(frozen=True)
class ConfusionMatrix(Page):
    """How often what (the row) was taken for what (the column).

    labels: names of the rows, and of the columns; rows: numbers, also as a two-dimensional array
    """

    kind: ClassVar[str] = "classification"
    labels: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]

    def __init__(self, labels: Iterable[Any], rows: Any) -> None:
        names, numbers = tuple(map(str, labels)), tuple(map(_list_numbers, rows))
        if not names or any(len(row) != len(names) for row in (numbers, *numbers)):
            raise ValueError(
                f"{len(names)} labels need as many rows and columns: {[len(r) for r in numbers]}"
            )
        object.__setattr__(self, "labels", names)
        object.__setattr__(self, "rows", numbers)


@dataclass(frozen=True)
class Roc(Page):
    """An ROC curve, in the order of scikit-learn: `Roc(*roc_curve(labels, scores))`."""

    kind: ClassVar[str] = "classification"
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    thresholds: tuple[float, ...]

    def __init__(
        self,
        false_positive_rate: Iterable[float],
        true_positive_rate: Iterable[float],
        thresholds: Iterable[float],
    ) -> None:
        columns = tuple(map(_list_numbers, (false_positive_rate, true_positive_rate, thresholds)))
        if len(set(map(len, columns))) != 1:
            raise ValueError(f"the columns differ in length: {[len(c) for c in columns]}")
        names = ("false_positive_rate", "true_positive_rate", "thresholds")
        for name, column in zip(names, columns, strict=True):
            object.__setattr__(self, name, column)


def _list_numbers(values: Any) -> tuple[float, ...]:
    # of numpy's numbers plain ones, without numpy
    return tuple(value.item() if hasattr(value, "item") else value for value in values)


CLASSES = {each.__name__: each for each in (Metrics, Markdown, HTML, ConfusionMatrix, Roc)}
