"""Values of run parameters, as they are typed."""

import pytest

from fftasks.errors import ParameterError
from fftasks.graph.run_parameters import (
    check_parameter,
    check_parameter_names,
    format_parameters,
    list_get_var_names,
    parse_parameter,
)


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("0.2", 0.1, 0.2),
        ("2", 0.1, 2.0),
        ("1e-3", 0.1, 0.001),
        ("-3", 1, -3),
        ("x=y z", "a", "x=y z"),
        ("3", "a", "3"),
        ("", "a", ""),
        ("true", False, True),
        ("No", True, False),
        ("[1, 2]", [0.5], [1.0, 2.0]),
        ("['a', 1]", ["a"], ["a", 1]),
        ('{"a": 1.0}', {"a": 3, "b": 1}, {"a": 1}),
    ],
)
def test_text_is_read_as_the_default_says(text, default, value):
    read = parse_parameter("p", text, default)

    assert (read, repr(read)) == (value, repr(value))


@pytest.mark.parametrize(
    ("text", "default", "said"),
    [
        ("x", 0.1, "must be a number, as its default 0.1 is"),
        ("0.5", 1, "must be an integer"),
        ("1", True, "must be true or false"),
        ("[1", [1], "must be a list"),
        ("(1, 2)", [1], "must be a list"),
        ("[1]", {"a": 1}, "must be a dict"),
        ("f()", {"a": 1}, "must be a dict"),
        ("nan", 0.1, "would not give this back"),
        (str(2**60), 1, "would not give this back"),
        ('{"a": null}', {"a": 1}, "would not give this back"),
        ("{{$}}", "a", "would not give this back"),
    ],
)
def test_text_that_does_not_fit_is_refused(text, default, said):
    with pytest.raises(ParameterError, match="parameter 'p' was given") as caught:
        parse_parameter("p", text, default)

    assert said in str(caught.value)


@pytest.mark.parametrize(("value", "default"), [(True, 0.1), (1, True), ("1", 1), (None, 1)])
def test_value_of_another_type_is_refused(value, default):
    with pytest.raises(ParameterError):
        check_parameter("p", value, default)


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ParameterError, match="no run parameter 'alhpa'") as caught:
        check_parameter_names(["beta", "alhpa"], ["alpha", "beta"])

    assert caught.value.tip == "did you mean 'alpha'?"


@pytest.mark.parametrize("value", [0.1, 3, True, "a b", "true", "[1]", [1.5, "x"], {"a": [1]}])
def test_written_value_is_read_as_itself(value):
    (written,) = format_parameters({"p": value})

    name, _, text = written.partition("=")
    assert (name, parse_parameter(name, text, value)) == ("p", value)


def test_a_dodo_file_may_have_variables_of_its_own(tmp_path):
    dodo = tmp_path / "dodo.py"
    dodo.write_text("import doit\nMODE = doit.get_var('mode', 'x')\nf('other')\n")

    assert list_get_var_names(dodo) == {"mode"}
    assert list_get_var_names(tmp_path / "none.py") == set()
