"""`doit result --json`: what tools get of a result."""

import json
import subprocess
import sys
from fractions import Fraction

import pytest

from fftasks.runner.artifact import read_artifact
from fftasks.runner.job import describe_result
from tests.sample import Sample


@pytest.mark.parametrize(
    ("value", "facts"),
    [
        ("{'a': [1, None]}", {"python_type": "dict", "value": {"a": [1, None]}}),
        ("(1, 2)", {"python_type": "tuple", "shape": "2 items", "repr": "(1, 2)"}),
        ("float('nan')", {"python_type": "float", "repr": "nan"}),
        ("{1: 'x'}", {"repr": "{1: 'x'}"}),
        ("Fraction(1, 3)", {"python_type": "fractions.Fraction", "preview": "Fraction(1, 3)"}),
    ],
)
def test_a_result_for_tools_has_its_value_only_where_json_can_hold_it(value, facts):
    described = describe_result(eval(value, {"Fraction": Fraction}))

    assert facts.items() <= json.loads(json.dumps(described)).items()
    assert ("value" in described) is ("value" in facts)


def test_a_result_for_tools_says_where_it_is_and_whether_it_is_current(tmp_path):
    chain = Sample.copy("chain", tmp_path)
    chain.doit()
    chain.edit("wf.py", "factor=2", "factor=3")

    done = subprocess.run(
        [sys.executable, "-m", "doit", "result", "report", "--json"],
        cwd=chain.root,
        capture_output=True,
        text=True,
        check=True,
    )

    shown = json.loads(done.stdout)
    assert (shown["node"], shown["is_current"]) == ("report", False)
    assert shown["value"] == {"value": 12, "scaled": 120} == read_artifact(shown["artifact"])
    assert shown["repr"] == "{'value': 12, 'scaled': 120}"
    assert "unknown option --jsn" in chain.doit("result", "report", "--jsn", code=3)
