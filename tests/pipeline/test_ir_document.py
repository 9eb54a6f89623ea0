"""Documents: what any YAML parser reads is what was written, and it is checked as the server does."""

import subprocess
import sys

import pytest
import yaml
from google.protobuf.json_format import ParseError
from hypothesis import given
from hypothesis import strategies as st

from fftasks.pipeline.ir_yaml import check_document, format_document, parse_documents
from tests.pipeline.sdk_compiler import parse_document
from tests.pipeline.test_components import SUMS, make_files, make_graph

TEXTS = [
    "1e5",
    "0o17",
    "2001-1-1",
    "y",
    "no",
    "null",
    "~",
    "0x1F",
    "1_000",
    ".5",
    "-",
    "=",
    "a: b",
    "1:30",
    "#",
]


@pytest.mark.parametrize(
    "text", [*TEXTS, "a\x85b", "a\u2028b", "\ufeffa", " a ", "'", '"', "a\tb\r\nc", "👍"]
)
def test_text_survives_yaml(text):
    document = {"pipelineInfo": {"name": "n"}, text: [text]}

    assert yaml.safe_load(format_document(document, "")) == document


@pytest.mark.parametrize("text", TEXTS[:4])
def test_text_that_the_server_would_take_for_something_else_is_quoted(text):
    # the server parses YAML 1.2, PyYAML writes for YAML 1.1
    assert f'a: "{text}"' in format_document({"pipelineInfo": {"name": "n"}, "a": text}, "")


@given(st.text())
def test_any_text_survives_yaml(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    document = {"pipelineInfo": {"name": "n"}, "a": {text: text}}

    assert yaml.safe_load(format_document(document, "")) == document


def test_yaml_of_python_and_c_is_the_same():
    program = (
        "import sys, yaml; sys.argv[1] == 'c' or delattr(yaml, 'CSafeDumper')\n"
        "from fftasks.pipeline.ir_yaml import format_document\n"
        "text = 'a long line with: many words ' * 20\n"
        "d = {'pipelineInfo': {'name': 'n'}, 'a': [text, 'ü', '1e5', 1.5, -0.0, 2**53, True, [], {}]}\n"
        "sys.stdout.write(format_document(d, 'x'))"
    )
    texts = [
        subprocess.check_output([sys.executable, "-c", program, kind]) for kind in ("c", "python")
    ]

    assert texts[0] == texts[1]


def test_message_classes_are_those_of_kfp():
    from kfp.pipeline_spec import pipeline_spec_pb2

    from fftasks.pipeline.ir_yaml import load_pipeline_spec_module

    assert load_pipeline_spec_module().PipelineSpec is pipeline_spec_pb2.PipelineSpec


def test_what_is_for_kubernetes_is_a_second_document():
    document, platform = {"pipelineInfo": {"name": "n"}}, {"platforms": {"kubernetes": {}}}

    text = format_document(document, "what it is", platform)

    assert parse_documents(text) == (document, platform)
    assert parse_documents(format_document(document, "")) == (document, {})
    assert text.splitlines()[2] == "# Description: what it is"


@pytest.mark.parametrize("place", [(), ("root",), ("deploymentSpec",)])
def test_a_field_that_the_server_does_not_know_is_found_before(place):
    document = parse_document(make_files(make_graph(SUMS), "sums")[1]["load.yaml"])
    check_document(document)
    inner = document
    for key in place:
        inner = inner[key]
    inner["invented"] = 1

    with pytest.raises(ParseError, match="invented"):
        check_document(document)
