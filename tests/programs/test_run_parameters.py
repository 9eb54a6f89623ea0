"""Run parameters on the command line and in scripts."""

import subprocess
import sys

import pytest

import fftasks
from fftasks import LocalWorkflow
from fftasks.api.functionfuse import FileStorage
from fftasks.errors import ParameterError
from tests.sample import Sample

WORKFLOW = """
from fftasks import Parameter, Workflow, workflow

alpha = Parameter("alpha", default=0.1, help="learning rate")

@workflow
def load(n):
    return list(range(n))

@workflow
def train(data, rate):
    return [x * rate for x in data]

@workflow
def score(model, rates):
    return sum(model), rates

data = load(3).set_name("data")
model = train(data, alpha).set_name("model")
score = score(model, [alpha, 1]).set_name("score")
Workflow(score, name="w")
Workflow(model, name="part")
"""


@pytest.fixture
def sample(tmp_path):
    return Sample.make(tmp_path, WORKFLOW)


def test_only_what_a_parameter_reaches_runs_and_going_back_runs_nothing(sample):
    assert sample.ran("run") == ["data", "model", "score"]
    assert sample.ran("run", "alpha=0.2") == ["model", "score"]
    assert fftasks.load("score", sample.root) == (pytest.approx(0.6), [0.2, 1])

    assert sample.ran("run", "alpha=0.1") == []
    assert sample.ran("run") == []


def test_plan_and_result_mean_the_values_that_are_given(sample):
    sample.doit("run", "alpha=0.2")

    assert "run: 0 to run" in sample.doit("plan", "run", "alpha=0.2")
    assert "parameter alpha: 0.2 -> 0.1" in sample.doit("plan", "run")
    assert sample.doit("result", "model", "alpha=0.2") == "[0.0, 0.2, 0.4]\n"
    assert sample.doit("result", "model").startswith("model was computed with alpha=0.2: ")
    assert sample.doit("result", "score").startswith("score was computed with alpha=0.2: ")
    missing = sample.doit("result", "model", "alpha=7", code=3 - 2)
    assert "'model' has no result yet for alpha=7" in missing


def test_a_result_of_the_cluster_is_of_a_run_not_of_values(sample):
    output = sample.doit("result", "model", "--cluster", "alpha=0.2", code=3)

    assert "alpha" in output
    assert "selected by run" in output


def test_a_result_of_another_value_is_not_accepted(sample):
    sample.doit("run")
    sample.doit("run", "alpha=0.2")
    sample.edit("wf.py", "return sum(model), rates", "return sum(model) + 0, rates")

    assert "computed with alpha=0.2" in sample.doit("accept", "score", code=1)
    sample.doit("accept", "score", "alpha=0.2")

    assert sample.ran("run", "alpha=0.2") == []
    assert sample.ran("run") == ["score"]


def test_another_default_runs_what_it_reaches(sample):
    sample.doit("run")
    sample.edit("wf.py", "default=0.1", "default=0.5")

    assert "parameter alpha: 0.1 -> 0.5" in sample.doit("plan", "run")
    assert sample.ran("run") == ["model", "score"]


@pytest.mark.parametrize(
    ("given", "said"),
    [("alhpa=1", "did you mean 'alpha'?"), ("alpha=x", "it must be a number, as its default 0.1")],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_what_is_wrong_is_said_in_one_error(sample, command, given, said):
    output = sample.doit(command, given, code=3)

    assert said in output
    assert "Traceback" not in output


def test_a_variable_of_dodo_is_no_parameter(sample):
    sample.edit("dodo.py", "import *", "import *\nfrom doit import get_var\nMODE = get_var('mode')")

    assert len(sample.ran("run", "mode=fast")) == 3


def test_a_default_that_no_cluster_carries_is_refused(sample):
    sample.edit("wf.py", "default=0.1", "default=float('nan')")

    assert "could not carry the default of Parameter('alpha', default=nan)" in sample.doit(code=3)


@fftasks.workflow
def multiply(a, b):
    return a * b


def make_flow():
    alpha = fftasks.Parameter("alpha", default=2)
    return LocalWorkflow(multiply(multiply(alpha, 3), alpha), workflow_name="flow")


def test_local_workflow_takes_values_by_name():
    assert (make_flow().run(), make_flow().run(alpha=5)) == (12, 75)
    with pytest.raises(ParameterError, match="'beta'"):
        make_flow().run(beta=1)
    with pytest.raises(ParameterError, match="an integer"):
        make_flow().run(alpha=1.5)


def test_storage_keeps_results_by_value(tmp_path):
    flow = make_flow()
    flow.set_storage(FileStorage(tmp_path))

    assert [flow.run(alpha=value) for value in (2, 5, 5, 2)] == [12, 75, 75, 12]


def test_importing_parameters_loads_nothing_heavy():
    code = "import sys, fftasks; fftasks.Parameter; print('numpy' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
