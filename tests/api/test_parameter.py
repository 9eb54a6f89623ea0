"""Run parameters while the graph is built: where they may stand, and that they have no value."""

import copy
import pickle

import numpy as np
import pytest

from fftasks import Parameter, Workflow, workflow
from fftasks.api.parameter import find_parameters
from fftasks.errors import WorkflowError
from fftasks.runner.job import call_node, name_parameters


@workflow
def use(*values, **named):
    return values, named


def no_input(_needed):
    raise AssertionError("the node has no upstream")


@pytest.mark.parametrize(
    "ask",
    [
        lambda p: p + 1,
        lambda p: 2 * p,
        lambda p: -p,
        lambda p: np.array([1.0, 2.0]) * p,
        lambda p: np.float64(2) + p,
        lambda p: p > 0,
        lambda p: p == 0.1,
        lambda p: p != 0.1,
        lambda p: [0.1].index(p),
        bool,
        float,
        int,
        len,
        list,
        range,
        lambda p: p[0],
        lambda p: p(),
        lambda p: f"data/{p}.csv",
    ],
)
def test_asking_for_the_value_is_an_error_that_says_what_to_do(ask):
    parameter = Parameter("alpha", default=0.1)

    with pytest.raises(
        WorkflowError, match=r"parameter 'alpha' .*no value while the graph"
    ) as caught:
        ask(parameter)

    assert "test_parameter.py" in str(caught.value)
    assert "pass it to a @workflow function" in caught.value.tip


def test_it_can_be_shown_and_kept_in_a_set():
    parameter = Parameter("alpha", default=0.1)

    assert str(parameter) == "Parameter('alpha', default=0.1)"
    assert len({parameter, parameter}) == 1
    assert [parameter, parameter].index(parameter) == 0


def test_it_stays_itself_in_a_copied_container():
    options = {"rate": [Parameter("alpha", 0.1)]}

    assert copy.deepcopy(options)["rate"][0] is options["rate"][0]


def test_hidden_inside_an_object_it_cannot_be_stored():
    with pytest.raises(WorkflowError, match="is hidden inside an object"):
        pickle.dumps(Parameter("alpha", 0.1))


@pytest.mark.parametrize("name", ["", "a b", "class", 1, "a-b", "profile"])
def test_name_that_cannot_be_typed_is_refused(name):
    with pytest.raises(WorkflowError, match="a parameter cannot be called"):
        Parameter(name, default=1)


@pytest.mark.parametrize("default", [None, (1, 2), {1}, np.float64(1), use])
def test_default_of_another_type_is_refused(default):
    with pytest.raises(WorkflowError, match="parameter 'a': the default is"):
        Parameter("a", default=default)


def test_it_is_found_wherever_it_stands():
    a, b = Parameter("a", 1), Parameter("b", 2)

    assert find_parameters([a, (b, {"k": a}), {b}, [1]]) == [a, b, a, b]


def test_values_are_put_into_place_and_are_copies():
    rates = Parameter("rates", default=[1])
    node = use(rates, {"k": (Parameter("alpha", 0.1), 2)}, last=rates)

    default = call_node(node, no_input)["result"]
    chosen = call_node(node, no_input, values={"alpha": 0.2, "rates": [3]})["result"]

    assert default == (([1], {"k": (0.1, 2)}), {"last": [1]})
    assert chosen == (([3], {"k": (0.2, 2)}), {"last": [3]})
    assert default[0][0] is not rates.default


def test_inputs_are_named_by_the_argument_or_by_the_parameter():
    alpha, beta = Parameter("alpha", 1), Parameter("beta", 2)

    node = use(alpha, [alpha, beta], {beta}, alpha=3, last=beta)

    assert name_parameters(node) == {
        "values_0": alpha,
        "last": beta,
        "alpha_": alpha,
        "beta": beta,
    }


def test_parameters_of_one_name_must_be_alike():
    one = use(Parameter("alpha", 1, help="rate"))

    same = Workflow(one, use(Parameter("alpha", 1, help="rate")), name="same")
    other = Workflow(one, use(Parameter("alpha", 1.0, help="rate")), name="other")

    assert list(same.parameters) == ["alpha"]
    with pytest.raises(WorkflowError, match="two parameters are called 'alpha'") as caught:
        _ = other.parameters
    assert str(caught.value).count("test_parameter.py") == 2
