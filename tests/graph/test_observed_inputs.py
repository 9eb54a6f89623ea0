"""What a file looks for while it is imported: its graph is made anew when that appears."""

import pytest

from fftasks.graph.observed_inputs import GraphFile
from fftasks.graph.record import load_graph
from tests.codehash.sample_project import write

WORKFLOW = """\
import glob, os, pathlib
from fftasks import Workflow, workflow


@workflow
def node(x):
    return x


try:
    {looks}
except (OSError, ImportError):
    value = None
Workflow(node(value).set_name("node"), name="w")
"""


def load_value(source):
    return load_graph(source)["nodes"]["node"]["arguments"][0]["repr"]


@pytest.mark.parametrize(
    ("looks", "appears"),
    [
        ("value = open('p.json').read()", "p.json"),
        ("value = pathlib.Path('p.json').read_text()", "p.json"),
        ("value = os.path.exists('p.json')", "p.json"),
        ("value = pathlib.Path('deep').is_dir()", "deep/p.json"),
        ("value = len(glob.glob('data/*/p.csv'))", "data/b/p.csv"),
        ("import local; value = local.__name__", "local.py"),
        ("from pkg import local; value = local.__name__", "pkg/local.py"),
    ],
)
def test_what_appears_later_is_seen(tmp_path, monkeypatch, looks, appears):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"wf.py": WORKFLOW.format(looks=looks), "data/b/other": "", "pkg/a.py": ""})
    source = GraphFile(tmp_path, "wf.py", tmp_path / ".fftasks")
    before = load_value(source)

    write(tmp_path, {appears: ""})

    assert load_value(source) != before


def test_a_file_whose_size_is_asked_for_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    looks = "value = os.path.getsize('p.csv')"
    write(tmp_path, {"wf.py": WORKFLOW.format(looks=looks), "p.csv": "1"})
    source = GraphFile(tmp_path, "wf.py", tmp_path / ".fftasks")
    assert load_value(source) == "1"

    write(tmp_path, {"p.csv": "1,2"})

    assert load_value(source) == "3"


def test_a_file_that_is_only_asked_for_counts_by_being_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    looks = "value = os.path.exists('p.csv')"
    write(tmp_path, {"wf.py": WORKFLOW.format(looks=looks), "p.csv": "1"})
    source = GraphFile(tmp_path, "wf.py", tmp_path / ".fftasks")

    inputs = load_graph(source)["inputs"]

    assert inputs["there:p.csv"] == "file"
    assert "file:p.csv" not in inputs


def test_a_file_that_is_edited_while_it_is_imported_is_imported_again(tmp_path, monkeypatch):
    # what edits it is the file itself, as somebody may at this moment
    looks = (
        "path = pathlib.Path(__file__); text = path.read_text(); value = 1; "
        "path.write_text(text.replace('value = 1', 'value = 2'))"
    )
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"wf.py": WORKFLOW.format(looks=looks)})
    source = GraphFile(tmp_path, "wf.py", tmp_path / ".fftasks")

    assert load_value(source) == "2"
