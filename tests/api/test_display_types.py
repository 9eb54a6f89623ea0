"""Pages: ordinary values, checked when they are made."""

import numpy as np
import pytest

from fftasks import HTML, ConfusionMatrix, Markdown, Metrics, Roc


def test_pages_are_what_they_show():
    assert Metrics(a=1) == {"a": 1}
    assert (Markdown("# a"), HTML("<b>")) == ("# a", "<b>")
    assert repr(Metrics(a=1)) == "Metrics({'a': 1})"


def test_numbers_of_arrays_are_plain():
    matrix = ConfusionMatrix(np.array([0, 1]), np.array([[3, 1], [0, 2]]))
    curve = Roc(np.array([0.0, 1.0]), np.array([0.5, 1.0]), np.array([np.inf, 0.1]))

    assert (matrix.labels, matrix.rows) == (("0", "1"), ((3, 1), (0, 2)))
    assert {type(number) for row in matrix.rows for number in row} == {int}
    assert curve.thresholds == (float("inf"), 0.1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ConfusionMatrix(["a"], [[1, 2]]), "1 labels need as many rows and columns"),
        (lambda: ConfusionMatrix(["a", "b"], [[1, 2]]), "2 labels need as many"),
        (lambda: ConfusionMatrix([], []), "0 labels"),
        (lambda: Roc([0.0], [0.0, 1.0], [0.5]), r"the columns differ in length: \[1, 2, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
