"""Documents of Kubeflow Pipelines: a pipeline, or a component as a pipeline of one task, as it reads them."""

from __future__ import annotations

from typing import Any

from fftasks.stages.emitter import format_yaml
from fftasks.stages.messages import load_messages

Document = dict[str, Any]


def check_document(document: Document) -> None:
    """Parse a pipeline document as strictly as KFP's server does.

    Raises google.protobuf.json_format.ParseError; that is a bug of ours, not the user's.
    """
    from google.protobuf import json_format

    messages = load_messages()
    # a Struct in PipelineSpec, which may be anything, parsed by the server only when the run starts
    rest = {key: value for key, value in document.items() if key != "deploymentSpec"}
    json_format.ParseDict(rest, messages.PipelineSpec())
    json_format.ParseDict(document["deploymentSpec"], messages.PipelineDeploymentConfig())


def format_document(document: Document, description: str, platform: Document | None = None) -> str:
    """Return a document as YAML, sorted, that every YAML parser reads alike.

    description: one line; kfp finds it in the third line of the file
    platform: a second document, if there is anything in it
    """
    name = document["pipelineInfo"]["name"]
    head = f"# PIPELINE DEFINITION\n# Name: {name}\n# Description: {description}\n"
    second = f"---\n{format_yaml(platform)}" if platform else ""
    return f"{head}{format_yaml(document)}{second}"


def parse_documents(text: str) -> tuple[Document, Document]:
    """Return the pipeline in a text of format_document, and what is for Kubernetes ({} for nothing)."""
    import yaml

    # the parser in Python takes seconds for some hundred tasks
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document, *platform = yaml.load_all(text, Loader=loader)
    return document, platform[0] if platform else {}
