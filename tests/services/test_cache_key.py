"""The cache key: equal to the keys that the backend's own tests hold."""

from __future__ import annotations

import copy

import pytest
from kfp.pipeline_spec import pipeline_spec_pb2 as ir

from tests.services.cache_key import hash_key, make_custom_fingerprint, make_fingerprint, make_key

MODEL = (
    "title: kfp.Model\ntype: object\nproperties:\n"
    "  framework:\n    type: string\n  framework_version:\n    type: string\n"
)
CONTAINER = ir.PipelineDeploymentConfig.PipelineContainerSpec
GOLDEN = {
    "inputArtifactNames": {
        "dataset_one": {"artifactNames": ["1"]},
        "dataset_two": {"artifactNames": ["2"]},
    },
    "inputParameterValues": {"message": "Some string value", "num_steps": 5.0},
    "outputArtifactsSpec": {
        "model": {
            "name": "model",
            "type": {"instanceSchema": MODEL},
            "metadata": {"name": "model"},
        },
        "metrics": {
            "name": "metrics",
            "type": {"schemaTitle": "kfp.Metrics"},
            "metadata": {"name": "metrics"},
        },
    },
    "outputParametersSpec": {"output_parameter_one": "STRING", "output_parameter_two": "INT"},
    "containerSpec": {"image": "python:3.11", "cmdArgs": ["sh", "ec", "test"]},
}
OTHER = {
    "inputArtifactNames": {"dataset": {"artifactNames": ["10"]}},
    "outputParametersSpec": {"output_parameter": "DOUBLE"},
    "containerSpec": {"image": "python:3.11", "cmdArgs": ["sh", "ec", "run"]},
}


def make_input() -> ir.ExecutorInput:
    message = ir.ExecutorInput()
    message.inputs.parameter_values["message"].string_value = "Some string value"
    message.inputs.parameter_values["num_steps"].number_value = 5
    for number, name in enumerate(("dataset_one", "dataset_two"), 1):
        message.inputs.artifacts[name].artifacts.add(name=str(number), uri="gs://bucket/x")
    model = message.outputs.artifacts["model"].artifacts.add(name="model", uri="gs://bucket/model")
    model.type.instance_schema = MODEL
    model.metadata["name"] = "model"
    metrics = message.outputs.artifacts["metrics"].artifacts.add(
        name="metrics", uri="gs://bucket/m"
    )
    metrics.type.schema_title = "kfp.Metrics"
    metrics.metadata["name"] = "metrics"
    for name in ("output_parameter_one", "output_parameter_two"):
        message.outputs.parameters[name].output_file = f"/tmp/{name}"
    return message


@pytest.mark.parametrize(
    ("key", "fingerprint"),
    [
        (GOLDEN, "b498530c9016917298999ec0b01f364a180f8a3862bea0fa672a383ca3f22e4e"),
        (OTHER, "3d9a2a778fa3174c6cfc6e639c507c265b5f21ef6e5b1dd70b236462cc6da464"),
    ],
)
def test_hash_is_the_backends(key, fingerprint):
    assert hash_key(key) == fingerprint


def test_key_of_an_executor_input_is_the_backends():
    types = {"output_parameter_one": "STRING", "output_parameter_two": "INT"}

    assert make_key(make_input(), types, "python:3.11", ["sh", "ec", "test"]) == GOLDEN


def test_environment_is_not_in_the_key():
    container = CONTAINER(image="i", args=["a"])
    other = copy.deepcopy(container)
    other.env.add(name="FFFUNCTION", value="node1")

    assert make_fingerprint(ir.ExecutorInput(), {}, container) == make_fingerprint(
        ir.ExecutorInput(), {}, other
    )


@pytest.mark.parametrize("other", [{"image": "j"}, {"args": ["b"]}, {"command": ["c"]}])
def test_image_and_arguments_are_in_the_key(other):
    one, two = CONTAINER(image="i", args=["a"]), CONTAINER(**{"image": "i", "args": ["a"], **other})

    assert make_fingerprint(ir.ExecutorInput(), {}, one) != make_fingerprint(
        ir.ExecutorInput(), {}, two
    )


def test_key_of_ones_own_replaces_all_but_the_component():
    assert make_custom_fingerprint("comp-a", "k") != make_custom_fingerprint("comp-b", "k")
