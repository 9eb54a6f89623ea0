"""Stage components: a file for each node, which pipelines of other people load with KFP's SDK.

A file names its image by digest and has the node's fingerprint in its arguments, as the container of our own
pipeline has: KFP's cache key holds both, so that another pipeline is never served the result of older code.
There is one file per node, also where our own pipeline lets several nodes share a task.

VERSION counts changes of what `make` gives for the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fftasks.record import Record, digest_bytes, digest_json
from fftasks.runtime.executor_input import PREVIEW
from fftasks.settings.nodes import NodeSettings
from fftasks.stages.document import (
    MAX_DESCRIPTION,
    Document,
    check_document,
    format_document,
    make_info,
)
from fftasks.stages.texts import check_texts

VERSION = 5
_PLAIN = NodeSettings()


def make(
    parts: Record,
    pins: Record,
    descriptions: Mapping[str, str],
    settings: Mapping[str, NodeSettings],
) -> tuple[Record, dict[str, str]]:
    """Return the record of a workflow's component files, and the files.

    Args:
        parts: Record of the stage tasks, with a task for each node.
        pins: Record of the stage pins for these tasks: image by digest and fingerprint of each.
        descriptions: Id of a node -> what the file says about it.
        settings: Id of a node -> its settings, of which a file has the environment and whether it is cached.

    Returns:
        Record, whose `files` are the digests of the files, and file name -> YAML.

    Raises:
        SettingsError: An environment variable has a value that KFP or Kubernetes would change.
    """
    files = {}
    for name, task in parts["tasks"].items():
        (node,) = task["nodes"]
        chosen = settings.get(node, _PLAIN)
        check_texts(task["name"], chosen, "env")
        document = _make_document(task, pins["tasks"][name], chosen, descriptions[node])
        check_document(document)
        files[f"{task['slug']}.yaml"] = format_document(document, descriptions[node])
    digests = {name: digest_bytes(text.encode()) for name, text in files.items()}
    record = {
        "stage": "components",
        "version": VERSION,
        "inputs": list_inputs(parts, pins, descriptions, settings),
        "output": digest_json(digests),
        "workflow": parts["workflow"],
        "slug": parts["slug"],
        "files": digests,
        "pins": dict(pins),
    }
    return record, files


def list_inputs(
    parts: Record,
    pins: Record,
    descriptions: Mapping[str, str],
    settings: Mapping[str, NodeSettings],
) -> dict[str, Any]:
    """Return the inputs that a record of `make` with the same arguments would have."""
    names = {node: task["name"] for task in parts["tasks"].values() for node in task["nodes"]}
    return {
        "tasks": parts["output"],
        **{f"images, {name}": value for name, value in pins["inputs"].items()},
        **{f"description of {names[node]}": text for node, text in descriptions.items()},
        **{
            f"settings of {names[node]}": digest_json([chosen.env, chosen.cache])
            for node, chosen in settings.items()
            if chosen.env or not chosen.cache
        },
    }


def _make_document(
    task: Document, pin: Record, settings: NodeSettings, description: str
) -> Document:
    """Return a component as a pipeline of one task, which is what KFP's SDK loads."""
    slug, component = task["slug"], task["component"]
    definitions = component.get("inputDefinitions", {})
    kinds = {"artifacts": "componentInputArtifact", "parameters": "componentInputParameter"}
    inputs = {k: {n: {kinds[k]: n} for n in names} for k, names in definitions.items()}
    outputs = {
        name: {"artifactSelectors": [{"outputArtifactKey": name, "producerSubtask": slug}]}
        for name in component["outputDefinitions"]["artifacts"]
    }
    is_cached = bool(pin["fingerprint"]) and settings.cache
    return {
        "pipelineInfo": make_info(slug, task["name"], description[:MAX_DESCRIPTION]),
        "schemaVersion": "2.1.0",
        "components": {f"comp-{slug}": component},
        "deploymentSpec": {
            "executors": {f"exec-{slug}": {"container": make_container(task, pin, settings)}}
        },
        "root": {
            "dag": {
                "outputs": {"artifacts": outputs},
                "tasks": {
                    slug: {
                        "cachingOptions": {"enableCache": True} if is_cached else {},
                        "componentRef": {"name": f"comp-{slug}"},
                        **({"inputs": inputs} if inputs else {}),
                        "taskInfo": {"name": slug},
                    }
                },
            },
            **({"inputDefinitions": definitions} if definitions else {}),
            "outputDefinitions": component["outputDefinitions"],
        },
    }


def make_container(task: Document, pin: Record, settings: NodeSettings) -> Document:
    """Return the container of a component file.

    It has no `env`: the compiler of KFP's SDK (2.17 at least) fails on a loaded component that has one. So
    the command sets the environment, which the fingerprint counts, by `env`. The node's name stands in the
    arguments, and FFFUNCTION is not needed.
    """
    shown = {PREVIEW: task["env"][PREVIEW]} if PREVIEW in task["env"] else {}
    variables = [f"{name}={value}" for name, value in sorted({**settings.env, **shown}.items())]
    made_for = ["--fingerprint", pin["fingerprint"]] if pin["fingerprint"] else []
    return {
        "image": pin["reference"],
        "command": [*(["env", *variables] if variables else []), *task["command"]],
        "args": [*task["args"], *made_for],
    }
