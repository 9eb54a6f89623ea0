"""The user's file is executed as Python itself would."""

from tests.sample import Sample

WORKFLOW = """
import dataclasses
import functools
from fftasks import Workflow, workflow

@dataclasses.dataclass
class Point:
    x: int = 1

@workflow
def look():
    class Local: pass

    @functools.singledispatch
    def show(value): return "any"

    @show.register
    def _(value: Local): return "local"

    return [Point.__annotations__["x"], show(Local())]

Workflow(look().set_name("look"), name="w")
"""


def test_annotations_are_objects_without_a_future_import_in_the_users_file(tmp_path):
    sample = Sample.make(tmp_path, WORKFLOW)

    sample.doit("run")

    assert sample.doit("result", "look") == "[<class 'int'>, 'local']\n"


def test_annotations_are_strings_with_a_future_import(tmp_path):
    plain = WORKFLOW.replace(", show(Local())", "").replace("@show.register", "")
    sample = Sample.make(tmp_path, f"from __future__ import annotations\n{plain}")

    sample.doit("run")

    assert sample.doit("result", "look") == "['int']\n"
