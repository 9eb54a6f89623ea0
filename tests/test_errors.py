"""Errors: what they say, which exit code they have, and that they survive a process border."""

import pickle
import subprocess
import sys

import pytest

from fftasks import errors
from fftasks.errors import FFTasksError, find_near


def test_error_without_evidence_says_what_was_attempted():
    assert str(FFTasksError("image: docker build failed")) == "image: docker build failed"


def test_evidence_is_indented_line_by_line_and_the_tip_comes_last():
    error = FFTasksError("push: refused", found=["first\nsecond", "third"], tip="log in")

    assert str(error) == "push: refused\n  first\n  second\n  third\n  hint: log in"


def test_empty_evidence_adds_no_line():
    assert str(FFTasksError("attempted", found=["", "seen"])) == "attempted\n  seen"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.FFTasksError, 1),
        (errors.SettingsError, 3),
        (errors.WorkflowError, 3),
        (errors.NodeError, 1),
        (errors.ToolError, 1),
        (errors.StoreError, 1),
    ],
)
def test_each_kind_has_doits_exit_code_and_one_root(kind, code):
    assert issubclass(kind, FFTasksError)
    assert kind("x").exit_code == code


def test_pickled_error_keeps_kind_evidence_and_tip():
    error = errors.ToolError("attempted", found=["a", "b"], tip="do this")

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is errors.ToolError
    assert (copy.attempted, copy.found, copy.tip) == ("attempted", ("a", "b"), "do this")
    assert str(copy) == str(error)


def test_evidence_given_as_a_list_is_kept_apart_from_it():
    lines = ["one"]
    error = FFTasksError("attempted", found=lines)

    lines.append("two")

    assert error.found == ("one",)


def test_nobody_pays_for_the_nearest_word_before_it_is_asked_for():
    program = "import sys, fftasks.tasks; print('difflib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"
    assert find_near("hots", ["port", "host"]) == "host"
    assert find_near("xyz", ["port", "host"]) == ""
