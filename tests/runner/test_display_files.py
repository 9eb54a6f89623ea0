"""What is shown of a result: as kfp's own classes would write it, and as files."""

import base64
import json
import sys

import matplotlib.figure
import numpy as np
import pytest

from fftasks import HTML, ConfusionMatrix, Markdown, Metrics, Roc
from fftasks.report.result_documents import extract_pictures
from fftasks.runner.display_files import find_pages, write_pages
from fftasks.runner.job import describe_type

MATRIX = [[5, 1], [2, 7]]
CURVE = [0.0, 0.1, 1.0], [0.0, 0.8, 1.0], [0.9, 0.5, 0.1]


def read(result, folder, name):
    assert name in write_pages(result, folder)
    text = (folder / name).read_text()
    return json.loads(text) if name.endswith(".json") else text


def make_figure(title="t"):
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    figure.subplots().set_title(title)
    return figure


def test_numbers_are_what_kfp_logs(tmp_path):
    from kfp import dsl

    theirs = dsl.Metrics()
    theirs.log_metric("accuracy", 0.5)

    ours = read(Metrics(accuracy=np.float64(0.5)), tmp_path, "metrics.json")

    assert ours == theirs.metadata


def test_matrix_and_curve_are_what_kfp_logs(tmp_path):
    from kfp import dsl

    theirs = dsl.ClassificationMetrics()
    theirs.log_confusion_matrix(["a", "b"], MATRIX)
    theirs.log_roc_curve(*CURVE)

    result = [ConfusionMatrix("ab", np.array(MATRIX)), {"curve": Roc(*map(np.array, CURVE))}]

    assert read(result, tmp_path, "classification.json") == theirs.metadata
    drawn = (tmp_path / "classification.html").read_text()
    assert "<td" in drawn
    assert "<polyline" in drawn


def test_infinite_threshold_and_long_curve_are_finite_and_short(tmp_path):
    count = 5000
    rates = np.linspace(0, 1, count)
    curve = Roc(rates, rates, [float("inf"), *np.linspace(1, 0, count - 1)])

    points = read(curve, tmp_path, "classification.json")["confidenceMetrics"]

    assert len(points) <= 201
    assert points[0]["confidenceThreshold"] == 2.0
    assert points[-1]["recall"] == 1.0


def test_pages_are_found_at_any_depth_in_order():
    result = {"a": [Metrics(x=1), (Markdown("# t"),)], "b": {"c": HTML("<b>x</b>")}, "d": 1}

    assert [found.label for found in find_pages(result)] == ["a 0", "a 1 0", "b c"]


def test_several_of_a_kind_are_one_file(tmp_path):
    result = {
        "train": Metrics(loss=1),
        "test": Metrics(loss=float("nan")),
        "one": HTML("<p>1</p>"),
        "two": HTML("<!doctype html><p>2</p>"),
        "text": Markdown("hello"),
    }

    names = write_pages(result, tmp_path)

    assert names == ["metrics.json", "page.md", "page.html"]
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers == {"train loss": 1, "test loss": "nan"}
    assert "<h2>one</h2>\n<p>1</p>" in (tmp_path / "page.html").read_text()
    assert "<iframe srcdoc=" in (tmp_path / "page.html").read_text()
    assert (tmp_path / "page.md").read_text() == "hello"


def test_figure_is_a_page_with_a_picture_and_equal_ones_are_equal(tmp_path):
    one = read(make_figure(), tmp_path / "1", "page.html")

    assert 'src="data:image/png;base64,iVBOR' in one
    assert one == read([make_figure()], tmp_path / "2", "page.html")


def test_figure_that_cannot_be_drawn_fails_nothing(tmp_path, capsys):
    page = read(make_figure("$\\nope$"), tmp_path, "page.html")

    assert "cannot be drawn: ValueError" in page
    assert "cannot be drawn: ValueError" in capsys.readouterr().out


@pytest.mark.parametrize("result", [None, [1], {"a": "b"}, np.zeros(3), list(range(200_000))])
def test_most_results_show_nothing(tmp_path, result):
    assert write_pages(result, tmp_path / "new") == []
    assert not (tmp_path / "new").exists()


def test_what_contains_itself_ends():
    result = [Metrics(x=1)]
    result.append(result)

    assert len(find_pages(result)) == 1


def test_they_are_ordinary_values():
    assert Metrics(a=1) == {"a": 1}
    assert Markdown("# a").upper() == "# A"
    assert ConfusionMatrix("ab", MATRIX) == ConfusionMatrix(["a", "b"], np.array(MATRIX))
    assert np.sum(ConfusionMatrix("ab", MATRIX).rows) == 15


@pytest.mark.parametrize("rows", [[[1]], [[1, 2], [3]], []])
def test_matrix_that_does_not_fit_its_labels_is_refused(rows):
    with pytest.raises(ValueError, match="2 labels need as many rows"):
        ConfusionMatrix("ab", rows)


@pytest.mark.parametrize(
    ("value", "described"),
    [
        (1, {"python_type": "int"}),
        ([1, 2], {"python_type": "list", "shape": "2 items"}),
        ("abc", {"python_type": "str", "shape": "3 long"}),
        (np.zeros((2, 3)), {"python_type": "numpy.ndarray", "shape": "2x3 float64"}),
        (Metrics(a=1), {"python_type": "fftasks.api.display.Metrics", "shape": "1 items"}),
    ],
)
def test_type_and_shape_of_a_value(value, described):
    assert describe_type(value) == described


def test_the_runtime_imports_no_matplotlib():
    import subprocess

    code = "import sys, fftasks.runner.__main__; print([m for m in sys.modules if 'matplot' in m])"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


class Drawn:
    """An object that draws itself, as notebooks ask for it."""

    def __init__(self, drawn):
        self.drawn = drawn

    def _repr_png_(self):
        return self.drawn


class Broken:
    def _repr_png_(self):
        raise RuntimeError("no canvas")


class Answering:
    """An object that has every attribute, such as a mock."""

    def __getattr__(self, name):
        return lambda *_: PNG


class Key:
    def __str__(self):
        raise RuntimeError("no name")

    __hash__ = object.__hash__


class Counting(dict):
    """A dictionary whose items cost something to be made."""

    def items(self):
        raise AssertionError("the items were made")

    __len__ = __iter__ = items


def find_shown_pictures(result, folder):
    names = write_pages(result, folder)
    return extract_pictures((folder / "page.html").read_text()) if names else ()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (PNG + b"x" * 1_500_000, "bytes is not shown"),
        (Broken(), "a picture cannot be drawn: "),
    ],
)
def test_the_page_says_why_a_picture_is_not_on_it(tmp_path, capsys, value, reason):
    write_pages(value, tmp_path)

    assert reason in (tmp_path / "page.html").read_text()
    assert reason in capsys.readouterr().out


JPEG = b"\xff\xd8\xff\xe0 content \xff\xd9"
GIF = b"GIF89a\x01\0\x01\0\0\0\0content;"


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        (PNG, (URL,)),
        (Drawn(PNG), (URL,)),
        (Drawn((PNG, {"width": 1})), (URL,)),
        (Drawn(base64.b64encode(PNG).decode()), (URL,)),
        (JPEG, (f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}",)),
        (GIF, (f"data:image/gif;base64,{base64.b64encode(GIF).decode()}",)),
        ([1, {"a": PNG}, (Drawn(PNG),)], (URL, URL)),
        ({Key(): PNG, "b": PNG}, (URL, URL)),
        (Drawn(None), ()),
        (Drawn(b"<svg onload=alert(1)>"), ()),
        (Answering(), ()),
        (Drawn, ()),
        (Drawn("no base64!"), ()),
        (b"no picture", ()),
        (b"\x89PNG\r\n\x1a\n broken", ()),
        (PNG[:-8], ()),
        (PNG.replace(b"\0\0\0\x01", b"\0\0\0\0"), ()),  # of no size
        (JPEG[:-2], ()),
        (GIF[:-1], ()),
        (GIF.replace(b"\x01\0\x01\0", bytes(4)), ()),
        ("\x89PNG", ()),
        (Counting(a=1), ()),
    ],
)
def test_pictures_are_written_when_the_node_ends(tmp_path, value, urls):
    assert find_shown_pictures(value, tmp_path / "new") == urls
    assert (tmp_path / "new").exists() == bool(urls)


def test_an_image_of_pillow_is_a_picture_and_a_huge_one_is_not(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")

    (url,) = find_shown_pictures({"a": image.new("RGB", (4, 4))}, tmp_path / "1")

    assert base64.b64decode(url.partition(",")[2]).startswith(b"\x89PNG\r\n\x1a\n")
    assert find_shown_pictures(image.new("L", (5000, 5000)), tmp_path / "2") == ()
    assert "5000 x 5000 pixels is not shown" in (tmp_path / "2/page.html").read_text()
    assert "5000 x 5000 pixels is not shown" in capsys.readouterr().out


def test_of_many_pictures_the_first_ones_are_shown(tmp_path, capsys):
    write_pages([PNG] * 100, tmp_path)

    page = (tmp_path / "page.html").read_text()
    assert page.count("<img ") == 24
    assert "76 of 100 pictures are not shown" in page
    assert "76 of 100 pictures are not shown: a page takes 24" in capsys.readouterr().out


def test_pictures_beside_a_page_are_in_the_page(tmp_path):
    page = read([HTML("<p>x</p>"), PNG], tmp_path, "page.html")

    assert "<p>x</p>" in page
    assert URL in page
