"""ExecutorInput: paths, types of parameters, and the answer to KFP."""

import json
import math

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from fftasks import ConfusionMatrix, Markdown, Metrics, errors
from fftasks.api.decorator import workflow
from fftasks.runner.display_files import write_pages
from fftasks.runner.executor_input import (
    find_local_path,
    read_executor_input,
    restore_type,
    write_executor_output,
)
from fftasks.runner.job import Report, describe_type, preview_value


@workflow
def load(path="a", rate=1):
    return path, rate


@workflow
def add(a, b=2, *, scale=1.5):
    return a, b, scale


def make_nodes():
    upstream = load("x").set_name("up")
    return upstream, add(upstream, 3, scale=-0.0).set_name("add it")


def artifact(uri, **more):
    return {"artifacts": [{"name": "n", "uri": uri} | more]}


def make_document(tmp_path, *, inputs=None, parameters=None):
    return {
        "inputs": {"artifacts": inputs or {}, "parameterValues": parameters or {}},
        "outputs": {
            "artifacts": {"result": artifact(f"{tmp_path}/deep/result")},
            "outputFile": f"{tmp_path}/out/executor_output.json",
        },
    }


@workflow
class Shelf:
    def __init__(self):
        self.kept = []

    def put(self, object, b):  # noqa: A002 - the name that the object itself would have
        self.kept.append(object)


@pytest.mark.parametrize("name", ["object_", "self"])  # the second: as fftasks named it earlier
def test_the_object_of_a_call_comes_under_a_name_that_is_free(tmp_path, name):
    shelf = Shelf()
    node = shelf.put(load("x"), 1)
    inputs = {name: artifact("/a/shelf"), "object": artifact("/a/loaded")}

    document = make_document(tmp_path, inputs=inputs)
    document["outputs"]["artifacts"]["state"] = artifact(f"{tmp_path}/state")

    job = read_executor_input(document, node)

    assert job.inputs == {"self": "/a/shelf", "object": "/a/loaded"}


@pytest.mark.parametrize(
    ("given_artifact", "path"),
    [
        (
            {"uri": "minio://mlpipeline/v2/artifacts/p/r/t/result"},
            "/minio/mlpipeline/v2/artifacts/p/r/t/result",
        ),
        ({"uri": "s3://b/k?x=1"}, "/s3/b/k?x=1"),
        ({"uri": "gs://b/k"}, "/gcs/b/k"),
        ({"uri": "oci://registry/team/model:1"}, "/oci/registry_team_model:1/models"),
        ({"uri": "/pipeline_root/t/result"}, "/pipeline_root/t/result"),
        ({"uri": "s3://b/k", "customPath": "/own/place"}, "/own/place"),
        (
            {"uri": "s3://b/k", "metadata": {"_kfp_workspace": True}},
            "/kfp-workspace/.artifacts/s3/b/k",
        ),
        ({"uri": "s3://b/k", "metadata": {"_kfp_workspace": False}}, "/s3/b/k"),
    ],
)
def test_artifact_is_where_the_launcher_has_it(given_artifact, path):
    assert find_local_path(given_artifact) == path


@pytest.mark.parametrize("uri", ["", "relative/path", "https://host/k", "azblob://c/k"])
def test_uri_that_the_launcher_does_not_know_is_refused(uri):
    with pytest.raises(errors.ToolError, match="no path in a container"):
        find_local_path({"uri": uri})


@pytest.mark.parametrize(
    ("value", "template", "result"),
    [
        (4.0, 3, 4),
        (4, 3, 4),
        (3, 2.5, 3.0),
        (3.5, 3, 3.5),
        (True, False, True),
        (True, 1, True),
        (1, True, 1),
        (0, False, 0),
        ("x", 3, "x"),
        (4.0, "x", 4),
        ("5", 5, "5"),
        ([3, 4.0, 5.0], [1, 2], [3, 4, 5]),
        ([3, 4, 5], [1.0, 2.0], [3.0, 4.0, 5.0]),
        ([1.0], [], [1]),
        ([True, 1.0], [1, True], [True, 1]),
        ([[1.0], {"a": 2.0}], [[1], {"a": 3.0}], [[1], {"a": 2.0}]),
        ({"a": 1.0, "new": 2.0}, {"a": 3}, {"a": 1, "new": 2}),
        ({"a": 1.0}, [1], {"a": 1}),
        ([1.0], {"a": 1}, [1]),
        (1e300, 1, 1e300),
        (float(2**53), 1, 2**53),
        (None, 1, None),
    ],
)
def test_changed_parameter_gets_the_types_of_the_template(value, template, result):
    restored = restore_type(value, template)

    assert restored == result
    assert repr(restored) == repr(result)  # 1, 1.0 and True are equal


@pytest.mark.parametrize("value", [0, 0.0, -0.0])
def test_negative_zero_survives(value):
    assert math.copysign(1, restore_type(value, -0.0)) == -1
    assert math.copysign(1, restore_type([value, 1], [-0.0, 2])[0]) == -1


constants = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def double(value):
    """Return value as protobuf carries it: every number a double."""
    if isinstance(value, list):
        return [double(item) for item in value]
    if isinstance(value, dict):
        return {key: double(item) for key, item in value.items()}
    return float(value) if type(value) is int else value


@given(constants)
def test_unchanged_parameter_is_the_template_itself(constant):
    assert restore_type(json.loads(json.dumps(double(constant))), constant) is constant


@given(st.lists(constants, min_size=1, max_size=4), constants)
def test_changed_item_leaves_the_others_as_they_were(constant, other):
    restored = restore_type([*double(constant), double(other)], constant)

    assert all(item is was for item, was in zip(restored, constant, strict=False))


def test_job_has_paths_and_values(tmp_path):
    _, node = make_nodes()
    document = make_document(
        tmp_path, inputs={"a": artifact("minio://b/k")}, parameters={"b": 7.0, "scale": 0.0}
    )

    job = read_executor_input(document, node)

    assert (job.node, job.inputs) == ("add it", {"a": "/minio/b/k"})
    assert job.outputs == {"result": f"{tmp_path}/deep/result"}
    assert (
        repr(job.parameters) == "{'b': 7, 'scale': -0.0}"
    )  # as given, 0.0 is the -0.0 of the graph
    assert (tmp_path / "deep").is_dir()


def test_node_without_inputs_needs_none(tmp_path):
    upstream, _ = make_nodes()
    document = make_document(tmp_path)
    del document["inputs"]  # protobuf leaves out what is empty

    job = read_executor_input(document, upstream)

    assert (job.inputs, job.parameters) == ({}, {})


def test_parameter_that_is_not_given_comes_from_the_graph(tmp_path):
    _, node = make_nodes()

    job = read_executor_input(
        make_document(tmp_path, inputs={"a": artifact("/x")}, parameters={"b": 3}), node
    )

    assert "scale" not in job.parameters


def test_missing_input_is_named(tmp_path):
    _, node = make_nodes()

    with pytest.raises(errors.WorkflowError, match="add it: its inputs a are missing"):
        read_executor_input(make_document(tmp_path), node)


def test_missing_output_is_named(tmp_path):
    upstream, _ = make_nodes()
    document = make_document(tmp_path)
    document["outputs"]["artifacts"] = {"result": {"artifacts": []}}

    with pytest.raises(errors.WorkflowError, match="up: its outputs result are missing"):
        read_executor_input(document, upstream)


def test_unknown_parameter_is_named(tmp_path):
    upstream, _ = make_nodes()

    with pytest.raises(errors.WorkflowError, match="up: its parameters zap are unknown"):
        read_executor_input(make_document(tmp_path, parameters={"zap": 1}), upstream)


def test_output_file_says_the_name_that_is_shown(tmp_path):
    _, node = make_nodes()
    document = make_document(tmp_path)

    write_executor_output(document, node, Report({"result": "sha256:0"}, {"": "3"}), tmp_path)

    text = (tmp_path / "out" / "executor_output.json").read_text()
    written = json.loads(text)["artifacts"]["result"]["artifacts"][0]
    assert written["uri"] == f"{tmp_path}/deep/result"
    assert written["metadata"] == {
        "display_name": "add it",
        "preview": "3",
        "seconds": 0.0,
        "digest": "sha256:0",
    }
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["executor_output.json"]


def test_output_file_is_parsed_strictly_by_kfp(tmp_path):
    from kfp.pipeline_spec import pipeline_spec_pb2

    upstream, _ = make_nodes()
    upstream.set_name("ü" * 500)
    document = make_document(tmp_path)

    write_executor_output(document, upstream, Report({"result": "sha256:0"}, {"": "3"}), tmp_path)

    text = (tmp_path / "out" / "executor_output.json").read_text()
    message = json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())
    metadata = message.artifacts["result"].artifacts[0].metadata
    assert metadata["display_name"] == "ü" * 99 + "…"


def test_no_output_file_is_written_where_none_is_asked_for(tmp_path):
    upstream, _ = make_nodes()
    document = make_document(tmp_path)
    del document["outputs"]["outputFile"]

    write_executor_output(document, upstream, Report({"result": "sha256:0"}, {"": "3"}), tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_input_of_kfp_itself_is_understood(tmp_path):
    from kfp.local import executor_input_utils
    from kfp.pipeline_spec import pipeline_spec_pb2

    component = json_format.ParseDict(
        {
            "inputDefinitions": {
                "parameters": {
                    "path": {"parameterType": "STRING"},
                    "rate": {"parameterType": "LIST"},
                }
            },
            "outputDefinitions": {
                "artifacts": {"result": {"artifactType": {"schemaTitle": "system.Artifact"}}}
            },
        },
        pipeline_spec_pb2.ComponentSpec(),
    )
    message = executor_input_utils.construct_executor_input(
        component,
        {"path": "y", "rate": [1, 2.5]},
        str(tmp_path / "task"),
        block_input_artifact=True,
    )
    node = load("x", [0, 0.0])

    job = read_executor_input(json_format.MessageToDict(message), node)

    assert job.parameters["path"] == "y"
    assert repr(job.parameters["rate"]) == "[1, 2.5]"
    assert job.outputs == {"result": str(tmp_path / "task" / "result")}


def write(tmp_path, node, result, *declared):
    """Return the metadata of a node's outputs, as KFP is given them."""
    document = make_document(tmp_path)
    for kind in declared:
        document["outputs"]["artifacts"][kind] = artifact(f"{tmp_path}/deep/{kind}")
    (tmp_path / "deep").mkdir()
    pages = tmp_path / "pages"
    report = Report(
        {"result": "sha256:0"},
        {"": preview_value(result)},
        traits={"result": describe_type(result)},
        pages=write_pages(result, pages),
    )
    write_executor_output(document, node, report, pages)
    answer = json.loads((tmp_path / "out" / "executor_output.json").read_text())
    return {name: each["artifacts"][0]["metadata"] for name, each in answer["artifacts"].items()}


def test_metadata_tell_name_type_shape_and_value(tmp_path):
    metadata = write(tmp_path, make_nodes()[0], ["{{$}} $(HOME) $$$", 1])

    assert metadata["result"] == {
        "display_name": "up",
        "python_type": "list",
        "shape": "2 items",
        "preview": "['{ {$}} $ (HOME) $ $ $', 1]",
        "seconds": 0.0,
        "digest": "sha256:0",
    }


@pytest.mark.parametrize(
    ("level", "told"),
    [("type", {"python_type", "seconds", "digest"}), ("name", {"digest"}), ("bare", set())],
)
def test_metadata_tell_less_where_asked_to(tmp_path, monkeypatch, level, told):
    monkeypatch.setenv("FFPREVIEW", level)

    assert write(tmp_path, make_nodes()[0], 1)["result"].keys() - {"display_name"} == told


def test_declared_pages_are_put_where_the_launcher_takes_them(tmp_path):
    result = {"m": Metrics(a=0.5), "t": Markdown("# x"), "c": ConfusionMatrix("a", [[1]])}

    metadata = write(tmp_path, make_nodes()[0], result, "metrics", "markdown", "classification")

    assert metadata["metrics"] == {"display_name": "up (metrics)", "a": 0.5}
    assert metadata["classification"]["confusionMatrix"]["rows"] == [{"row": [1]}]
    assert (tmp_path / "deep" / "markdown").read_text() == "# x"


def test_a_page_that_was_declared_and_did_not_come_is_no_missing_file(tmp_path):
    metadata = write(tmp_path, make_nodes()[0], 1, "html")

    assert metadata["html"] == {"display_name": "up (html)"}
    assert "nothing to be shown" in (tmp_path / "deep" / "html").read_text()


def test_numbers_that_were_not_declared_stand_with_the_result_and_a_hint_says_so(tmp_path, capsys):
    metadata = write(tmp_path, make_nodes()[0], Metrics(a=0.5))

    assert metadata["result"]["metric a"] == 0.5
    assert '@workflow(shows=["metrics"])' in capsys.readouterr().out
