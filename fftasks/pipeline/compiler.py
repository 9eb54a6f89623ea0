"""The keys of components and executors in a pipeline document, chosen so that KFP's SDK can load it.

The SDK (2.17) takes `comp-<pipeline name>` for the interface of the whole pipeline and
`exec-<pipeline name>` for its container.

Where it puts the pipeline into another one, it gives executors whose labels are taken the numbers -2, -3, …,
one executor after the other. An executor `a` that becomes `a-2` would, beside an executor `a-2` of the same
document, be renamed once more and lose its container.

A key that the SDK would confuse gets a suffix that no slug has. From release 2.18 on, KFP's cache counts the
keys of components, so these change for the pipeline's own name only.

Stage pipeline: tasks and their images -> one pipeline document for Kubeflow Pipelines.

VERSION counts changes of what `make` gives for the same inputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fftasks.config.node_settings import NodeSettings
from fftasks.errors import ToolError
from fftasks.kfp.limits import ClusterLimits, check_limits, check_sources
from fftasks.pipeline.ir_yaml import (
    Document,
    check_document,
    check_setting_placeholders,
    format_document,
    make_info,
)
from fftasks.pipeline.kubernetes import (
    apply_settings,
    check_mounts,
    check_platform,
    make_platform,
    make_pod_settings,
)
from fftasks.pipeline.reuse import ReusedPacks, add_importers, add_reuse_inputs
from fftasks.records import Record, digest_bytes, digest_json

_SUFFIX = "--n"  # of no slug: these have no double dash
_NUMBERED = re.compile(r"(.+)-([2-9]|[1-9][0-9]+)")


def rename_ambiguous_keys(document: Document, platform: Document) -> None:
    """Rename the keys of a pipeline document that KFP's SDK would confuse; both documents are changed.

    Args:
        document: Pipeline document whose keys are comp-<slug> and exec-<slug>.
        platform: Second document, with the settings for Kubernetes; {} if there are none.
    """
    name = document["pipelineInfo"]["name"]
    components = document["components"]
    renamed = {f"comp-{name}": f"comp-{name}{_SUFFIX}"}
    _rename_keys(components, renamed)
    for task in document["root"]["dag"]["tasks"].values():
        reference = task["componentRef"]
        reference["name"] = renamed.get(reference["name"], reference["name"])
    executors = document["deploymentSpec"]["executors"]
    labels = {label: f"{label}{_SUFFIX}" for label in _list_confused(executors, f"exec-{name}")}
    _rename_keys(executors, labels)
    for key, component in components.items():
        label = component["executorLabel"]
        if label in labels:  # a copy, as the record of the tasks has the same one
            components[key] = {**component, "executorLabel": labels[label]}
    if platform:
        _rename_keys(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"], labels)


def _list_confused(labels: Iterable[str], pipeline: str) -> list[str]:
    known = set(labels)
    return [
        label
        for label in sorted(known)
        if label == pipeline or ((found := _NUMBERED.fullmatch(label)) and found[1] in known)
    ]


def _rename_keys(values: dict[str, Any], names: Mapping[str, str]) -> None:
    for old, new in names.items():
        if old in values:
            values[new] = values.pop(old)


VERSION = 4


@dataclass(frozen=True)
class CompileOptions:
    """What a pipeline is compiled with, besides its tasks and their images.

    Attributes:
        caching: Whether KFP may take a task's result from an earlier run.
        version: Version of fftasks.
        settings: Id of a node in the graph record -> its settings; a task has those of its first node.
        cluster: What the cluster takes of a pipeline.
        description: What the workflow is for, to be shown; "" for nothing.
    """

    caching: bool
    version: str
    settings: Mapping[str, NodeSettings] = field(default_factory=dict)
    cluster: ClusterLimits = field(default_factory=ClusterLimits)
    description: str = ""


def compile_pipeline(
    components: Record,
    pins: Record,
    options: CompileOptions,
    kept: Mapping[str, ReusedPacks] | None = None,
) -> tuple[Record, str]:
    """Return the record of a workflow's pipeline and its YAML.

    Args:
        components: Record of the stage tasks.
        pins: Record of the stage pins: the image of each task, repository@sha256:..., and its fingerprint.
        options: What else decides what the pipeline is.
        kept: Fingerprint of a task of several nodes -> what it takes from its last run.

    Returns:
        Record, and the YAML, whose second document has the settings for Kubernetes. The record's `file` is
        the digest of the YAML, and its `output` the digest of what runs: all of it but the description, so
        that an edit of a docstring starts no run.

    Raises:
        WorkflowError: The workflow is too large for KFP.
        ToolError: An image is not named by its digest.
    """
    _check_references(pins)
    inputs = list_pipeline_inputs(components, pins, options)
    taken = _select_reuse(components, pins, kept or {})
    components = _apply_reuse(components, taken)
    document = _make_document(components, pins, caching=options.caching)
    document["sdkVersion"] = f"fftasks-{options.version}"
    chosen = _choose_settings(components, options.settings)
    _settle(document, components, chosen, options.cluster)
    for name, one in taken.items():
        add_importers(document, components["tasks"][name]["slug"], one)
    platform = make_platform({_name_executor(components, n): s for n, s in chosen.items()})
    check_limits(components, document, options.cluster)
    check_sources(document)
    rename_ambiguous_keys(document, platform)
    output = digest_json([document, platform])
    workflow = components["workflow"]
    document["pipelineInfo"] = make_info(components["slug"], workflow, options.description)
    check_document(document)
    check_platform(platform)
    said = f"workflow {workflow!r}, made by fftasks"
    said = f"{options.description}\n\n{said}" if options.description else said
    text = format_document(document, said, platform)
    record = {
        "stage": "pipeline",
        "version": VERSION,
        "inputs": inputs,
        "output": output,
        "file": digest_bytes(text.encode()),
        "workflow": workflow,
    }
    return record, text


def draft_document(
    components: Record,
    pins: Record,
    *,
    caching: bool,
    settings: Mapping[str, NodeSettings],
    kept: Mapping[str, ReusedPacks],
) -> Document:
    """Return the document that `make` would write, of tasks with a container only.

    What is shown, and what is for Kubernetes, is not in it.
    """
    components = _apply_reuse(components, _select_reuse(components, pins, kept))
    document = _make_document(components, pins, caching=caching)
    for name, chosen in _choose_settings(components, settings).items():
        executor = document["deploymentSpec"]["executors"][_name_executor(components, name)]
        apply_settings(document["root"]["dag"]["tasks"][name], executor["container"], chosen)
    rename_ambiguous_keys(document, {})
    return document


def list_pipeline_inputs(
    components: Record, pins: Record, options: CompileOptions
) -> dict[str, Any]:
    """Return the inputs that a record of `make` with the same arguments would have."""
    return {
        "tasks": components["output"],
        "pins": pins["output"],
        "caching": options.caching,
        "cluster": asdict(options.cluster),
        "fftasks": options.version,
        **({"description": options.description} if options.description else {}),
        **{
            f"settings of {components['tasks'][name]['name']}": digest_json(chosen.to_json())
            for name, chosen in _choose_settings(components, options.settings).items()
            if chosen != NodeSettings()
        },
    }


def _select_reuse(
    components: Record, pins: Record, kept: Mapping[str, ReusedPacks]
) -> dict[str, ReusedPacks]:
    """Return what each task takes from its last run; kept: by the fingerprints of tasks."""
    fingerprints = {name: pins["tasks"][name]["fingerprint"] for name in components["tasks"]}
    return {name: kept[one] for name, one in fingerprints.items() if one in kept}


def _apply_reuse(components: Record, taken: Mapping[str, ReusedPacks]) -> Record:
    tasks = {name: add_reuse_inputs(components["tasks"][name], one) for name, one in taken.items()}
    return {**components, "tasks": {**components["tasks"], **tasks}}


def _choose_settings(
    components: Record, settings: Mapping[str, NodeSettings]
) -> dict[str, NodeSettings]:
    """Return the settings of each task; nodes that share one have the same."""
    plain = NodeSettings()
    chosen = {}
    for name, task in components["tasks"].items():
        own = settings.get(task["nodes"][0], plain)
        chosen[name] = make_pod_settings(own, len(task["nodes"]))
    return chosen


def _settle(
    document: Document,
    components: Record,
    chosen: Mapping[str, NodeSettings],
    cluster: ClusterLimits,
) -> None:
    """Put names to show, and what is set for nodes, into the tasks of a document and their executors."""
    for name, task in document["root"]["dag"]["tasks"].items():
        node = components["tasks"][name]["name"]
        shown = chosen[name].display_name or node
        task["taskInfo"] = {"name": shown if cluster.display_names else name}
        executor = document["deploymentSpec"]["executors"][_name_executor(components, name)]
        check_setting_placeholders(node, chosen[name])
        check_mounts(node, chosen[name])
        apply_settings(task, executor["container"], chosen[name])


def _name_executor(components: Record, task: str) -> str:
    return f"exec-{components['tasks'][task]['slug']}"


def _check_references(pins: Record) -> None:
    for task, pin in pins["tasks"].items():
        if "@sha256:" not in pin["reference"]:
            raise ToolError(
                f"pipeline: the image {pin['reference']!r} of {task} is not named by its digest",
                tip="delete .fftasks/push.json and .fftasks/pins, and run `doit push`",
            )


def _make_document(components: Record, pins: Record, *, caching: bool) -> Document:
    tasks: dict[str, Document] = components["tasks"]
    parameters: Document = components["parameters"]
    executors = {
        f"exec-{task['slug']}": {"container": _make_container(task, pins["tasks"][name])}
        for name, task in tasks.items()
    }
    return {
        "pipelineInfo": {"name": components["slug"]},
        "schemaVersion": "2.1.0",
        "components": {f"comp-{task['slug']}": task["component"] for task in tasks.values()},
        "deploymentSpec": {"executors": executors},
        "root": {
            "dag": {
                "tasks": {
                    name: _make_task(task, pins["tasks"][name], caching=caching)
                    for name, task in tasks.items()
                }
            },
            **({"inputDefinitions": {"parameters": parameters}} if parameters else {}),
        },
    }


def _make_container(task: Document, pin: Record) -> Document:
    # here it is in the cache's key on every backend, and the entry point compares it with its image
    made_for = ["--fingerprint", pin["fingerprint"]] if pin["fingerprint"] else []
    return {
        "image": pin["reference"],
        "command": task["command"],
        "args": [*task["args"], *made_for],
        "env": [{"name": name, "value": value} for name, value in sorted(task["env"].items())],
    }


def _make_task(task: Document, pin: Record, *, caching: bool) -> Document:
    inputs: Document = {}
    if task["artifacts"]:
        inputs["artifacts"] = {
            name: {
                "taskOutputArtifact": {
                    "outputArtifactKey": source["output"],
                    "producerTask": source["task"],
                }
            }
            for name, source in task["artifacts"].items()
        }
    if task["parameters"] or task["run_parameters"]:
        # all of them, though they are the defaults: backend 2.17.0 fails on what is left out (issue 14175)
        inputs["parameters"] = {
            **{n: {"runtimeValue": {"constant": value}} for n, value in task["parameters"].items()},
            **{n: {"componentInputParameter": p} for n, p in task["run_parameters"].items()},
        }
    return {
        "cachingOptions": _make_caching(pin) if caching else {},
        "componentRef": {"name": f"comp-{task['slug']}"},
        **({"dependentTasks": task["upstream"]} if task["upstream"] else {}),
        **({"inputs": inputs} if inputs else {}),
    }


def _make_caching(pin: Record) -> Document:
    """Return a task's cachingOptions.

    Backends before 2.18 ignore the key and make their own, of image, arguments and inputs. Later ones take
    it for all of these, so there is none where something else decides.
    """
    if not pin["fingerprint"]:  # never the same twice, whatever the pipeline looks like
        return {}
    key = {"cacheKey": pin["cache_key"]} if pin["cache_key"] else {}
    return {"enableCache": True, **key}
