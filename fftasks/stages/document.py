"""Documents of Kubeflow Pipelines: a pipeline, or a component as a pipeline of one task, as it reads them."""

from __future__ import annotations

from typing import Any

from fftasks.stages.emitter import format_yaml
from fftasks.stages.messages import load_messages

Document = dict[str, Any]

MAX_DESCRIPTION = (
    1024  # characters, also of a name to show; see PipelineInfo in KFP's pipeline_spec.proto
)
_CONTINUED = "\n#              "  # how KFP's SDK writes and reads further lines of a description


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


def make_info(name: str, shown: str, description: str) -> Document:
    """Return the pipelineInfo of a document; KFP's server has known its three fields since release 2.0.

    Args:
        name: Name that KFP's metadata and cache know the pipeline by.
        shown: Name to show, shortened to what KFP takes.
        description: Text to show; "" for none.
    """
    info = {"name": name, "displayName": _clean(shown)[:MAX_DESCRIPTION]}
    text = "\n".join(map(_clean, description.splitlines()))[:MAX_DESCRIPTION]
    return {**info, "description": text} if text else info


def format_document(document: Document, description: str, platform: Document | None = None) -> str:
    """Return a document as YAML, sorted, that every YAML parser reads alike.

    Args:
        document: Pipeline document.
        description: Text for the comment at the top, in whose third line KFP's SDK looks for it.
        platform: Second document, with the settings for Kubernetes; None or {} if there are none.
    """
    name = document["pipelineInfo"]["name"]
    said = _CONTINUED.join(map(_clean, description.splitlines()))
    head = f"# PIPELINE DEFINITION\n# Name: {name}\n# Description: {said}\n"
    second = f"---\n{format_yaml(platform)}" if platform else ""
    return f"{head}{format_yaml(document)}{second}"


def _clean(line: str) -> str:
    """Return a line without what YAML takes nowhere, comments included: controls and lone surrogates."""
    return "".join(c if c.isprintable() else " " for c in line)


def parse_documents(text: str) -> tuple[Document, Document]:
    """Return the pipeline in a text of format_document, and what is for Kubernetes ({} for nothing)."""
    import yaml

    # the parser in Python takes seconds for some hundred tasks
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document, *platform = yaml.load_all(text, Loader=loader)
    return document, platform[0] if platform else {}
