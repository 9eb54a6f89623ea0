"""What a function will show, known before it runs."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

import fftasks
from fftasks import Markdown, Metrics, workflow
from fftasks.api.display import list_node_display_kinds
from fftasks.errors import WorkflowError


def report(x):
    return [fftasks.HTML(f"<b>{x}</b>")]


@workflow
def by_annotation(x) -> tuple[int, Metrics]:
    return x


@workflow
def by_code(x):
    return {"a": [Markdown("x"), x]}


@workflow
def by_helper(x):
    return [report(y) for y in x]


@workflow
def by_import(x):
    from fftasks import ConfusionMatrix

    return ConfusionMatrix([x], [[1]])


@workflow
def by_figure(x):
    figure, axes = plt.subplots()
    axes.plot(x)
    return figure


@workflow
def by_late_import(x):
    import matplotlib.pyplot

    return matplotlib.pyplot.figure()


class Unhashable:
    __hash__ = None

    def __call__(self, x) -> Metrics:
        return Metrics(a=x)

    __annotations__ = {"return": "Metrics"}


@workflow(shows=["html", "metrics"])
def by_word(x):
    return x


@workflow(shows=[])
def silent(x):
    return Metrics(a=x)


@workflow
def plain(x):
    return sorted(x)


@workflow
class Model:
    def score(self, x):
        return Metrics(a=x)


@pytest.mark.parametrize(
    ("node", "shows"),
    [
        (by_annotation(1), ["metrics"]),
        (by_code(1), ["markdown"]),
        (by_helper(1), ["html"]),
        (by_import(1), ["classification"]),
        (by_figure(1), ["html"]),
        (by_late_import(1), ["html"]),
        (workflow(Unhashable())(1), ["metrics"]),
        (by_word(1), ["metrics", "html"]),
        (silent(1), []),
        (plain(1), []),
        (Model().score(1), ["metrics"]),
        (Model().score(1).object, []),
    ],
)
def test_shown_kinds_are_found(node, shows):
    assert list_node_display_kinds(node) == shows


@pytest.mark.parametrize("shows", ["metrics", ["metric"]])
def test_unknown_kind_is_refused(shows):
    with pytest.raises(WorkflowError, match="shows must be a list of 'metrics'"):
        workflow(shows=shows)


def test_an_annotation_that_names_a_picture_is_a_page():
    image = pytest.importorskip("PIL.Image")

    def by_module(x) -> module.Image:  # noqa: F821 - a global of this function
        return x

    def by_path(x) -> PIL.Image.Image:  # noqa: F821 - the annotation is a string
        return x

    def by_class(x) -> tuple[int, image.Image]:
        return x

    def other(x) -> Image:  # noqa: F821 - a class of the project
        return x

    by_module.__globals__["module"] = image
    try:
        assert list_node_display_kinds(workflow(by_module)(1)) == ["html"]
    finally:
        del by_module.__globals__["module"]
    by_class.__annotations__["return"] = tuple[int, image.Image]
    assert list_node_display_kinds(workflow(by_path)(1)) == ["html"]
    assert list_node_display_kinds(workflow(by_class)(1)) == ["html"]
    assert list_node_display_kinds(workflow(other)(1)) == []
