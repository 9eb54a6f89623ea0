"""Stage pipeline: compile the tasks of a workflow and their image pins to one KFP pipeline document.

VERSION counts changes of what compile_pipeline returns for the same inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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

VERSION = 4

_SUFFIX = "--n"  # No slug contains a double dash, so the suffix cannot occur in another key.
_NUMBERED = re.compile(r"(.+)-([2-9]|[1-9][0-9]+)")


@dataclass(frozen=True)
class CompileOptions:
    """Inputs of the compiler besides the tasks and their images.

    Attributes:
        caching: Whether KFP may take a task's result from an earlier run.
        version: Version of fftasks.
        settings: Id of a node in the graph record -> its settings; a task has those of its first node.
        cluster: Limits of the cluster's KFP release.
        description: Description of the workflow for the web UI of KFP; "" for none.
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
        components: Record of stage tasks.
        pins: Record of stage pins: the image of each task, repository@sha256:..., and its fingerprint.
        options: The other inputs.
        kept: Fingerprint of a task with several nodes -> results that it reuses from its last run.

    Returns:
        The record, and the YAML, whose second document has the settings for Kubernetes. The record's `file`
        is the digest of the YAML, and its `output` is the digest of what runs: everything except the
        description, so that an edit of a docstring starts no run.

    Raises:
        WorkflowError: The workflow is too large for KFP.
        SettingsError: KFP, Kubernetes or the cluster would change or reject a setting of a node.
        ToolError: The reference of an image has no digest.
    """
    for task, pin in pins["tasks"].items():
        if "@sha256:" not in pin["reference"]:
            raise ToolError(
                f"pipeline: the image {pin['reference']!r} of {task} is not named by its digest",
                tip="delete .fftasks/push.json and .fftasks/pins, and run `doit push`",
            )
    inputs = list_pipeline_inputs(components, pins, options)
    reused = _select_reuse(components, pins, kept or {})
    components = _apply_reuse(components, reused)
    document = _make_document(components, pins, caching=options.caching)
    document["sdkVersion"] = f"fftasks-{options.version}"
    settings = _choose_settings(components, options.settings)
    for name, task in document["root"]["dag"]["tasks"].items():
        node = components["tasks"][name]["name"]
        title = settings[name].display_name or node
        task["taskInfo"] = {"name": title if options.cluster.display_names else name}
        check_setting_placeholders(node, settings[name])
        check_mounts(node, settings[name])
        executor = document["deploymentSpec"]["executors"][_name_executor(components, name)]
        apply_settings(task, executor["container"], settings[name])
    for name, packs in reused.items():
        add_importers(document, components["tasks"][name]["slug"], packs)
    platform = make_platform({_name_executor(components, n): s for n, s in settings.items()})
    check_limits(components, document, options.cluster)
    check_sources(document)
    rename_ambiguous_keys(document, platform)
    output = digest_json([document, platform])
    workflow = components["workflow"]
    document["pipelineInfo"] = make_info(components["slug"], workflow, options.description)
    check_document(document)
    check_platform(platform)
    origin = f"workflow {workflow!r}, made by fftasks"
    description = f"{options.description}\n\n{origin}" if options.description else origin
    text = format_document(document, description, platform)
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
    """Return the part of a pipeline document that determines the cache keys of its tasks.

    The document has the tasks with a container only, without importers, titles and settings for Kubernetes.

    Args:
        components: Record of stage tasks.
        pins: Record of stage pins.
        caching: Whether KFP may take a task's result from an earlier run.
        settings: Id of a node in the graph record -> its settings.
        kept: Fingerprint of a task with several nodes -> results that it reuses from its last run.
    """
    components = _apply_reuse(components, _select_reuse(components, pins, kept))
    document = _make_document(components, pins, caching=caching)
    for name, pod_settings in _choose_settings(components, settings).items():
        executor = document["deploymentSpec"]["executors"][_name_executor(components, name)]
        apply_settings(document["root"]["dag"]["tasks"][name], executor["container"], pod_settings)
    rename_ambiguous_keys(document, {})
    return document


def list_pipeline_inputs(
    components: Record, pins: Record, options: CompileOptions
) -> dict[str, Any]:
    """Return the inputs in the record that compile_pipeline would return for the same arguments.

    Args:
        components: Record of stage tasks.
        pins: Record of stage pins.
        options: The other inputs of the compiler.
    """
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
    """Return the reused results by task name, given those by fingerprint."""
    fingerprints = {name: pins["tasks"][name]["fingerprint"] for name in components["tasks"]}
    return {name: kept[f] for name, f in fingerprints.items() if f in kept}


def _apply_reuse(components: Record, reused: Mapping[str, ReusedPacks]) -> Record:
    """Return the record of the tasks, with the inputs for reused results added."""
    tasks = {n: add_reuse_inputs(components["tasks"][n], packs) for n, packs in reused.items()}
    return {**components, "tasks": {**components["tasks"], **tasks}}


def _choose_settings(
    components: Record, settings: Mapping[str, NodeSettings]
) -> dict[str, NodeSettings]:
    """Return the pod settings of each task; nodes share a task only if they have the same settings."""
    defaults = NodeSettings()
    return {
        name: make_pod_settings(settings.get(task["nodes"][0], defaults), len(task["nodes"]))
        for name, task in components["tasks"].items()
    }


def _name_executor(components: Record, task: str) -> str:
    return f"exec-{components['tasks'][task]['slug']}"


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
    # Arguments are part of the cache key on every backend, and the entry point compares the fingerprint with
    # its image.
    fingerprint = ["--fingerprint", pin["fingerprint"]] if pin["fingerprint"] else []
    return {
        "image": pin["reference"],
        "command": task["command"],
        "args": [*task["args"], *fingerprint],
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
        # All parameters are written, also those with their default: backend 2.17.0 fails on a parameter that
        # is left out (issue 14175).
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

    Backends before 2.18 ignore cacheKey and compute a key from image, arguments and inputs. Later backends
    use cacheKey instead, so a task has none if run parameters contribute to its result.
    """
    if not pin["fingerprint"]:  # The task must never be taken from the cache.
        return {}
    key = {"cacheKey": pin["cache_key"]} if pin["cache_key"] else {}
    return {"enableCache": True, **key}


def rename_ambiguous_keys(document: Document, platform: Document) -> None:
    """Rename the keys of a pipeline document that KFP's SDK would confuse; both documents are changed.

    The SDK (2.17) takes `comp-<pipeline name>` for the interface of the whole pipeline and
    `exec-<pipeline name>` for its container.

    Where it puts the pipeline into another one, it appends -2, -3, ... to the labels of executors that are
    taken already, one executor after the other. An executor `a` that becomes `a-2` would, beside an
    executor `a-2` of the same document, be renamed once more and lose its container.

    A key that the SDK would confuse gets a suffix that no slug has. From release 2.18 on, KFP's cache key
    contains the keys of components, so only the component key with the pipeline's own name is changed.

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
    labels = {
        label: f"{label}{_SUFFIX}"
        for label in sorted(executors)
        if label == f"exec-{name}"
        or ((numbered := _NUMBERED.fullmatch(label)) and numbered[1] in executors)
    }
    _rename_keys(executors, labels)
    for key, component in components.items():
        label = component["executorLabel"]
        if (
            label in labels
        ):  # The record of the tasks has the same object, so it must not be changed.
            components[key] = {**component, "executorLabel": labels[label]}
    if platform:
        _rename_keys(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"], labels)


def _rename_keys(values: dict[str, Any], names: Mapping[str, str]) -> None:
    for old, new in names.items():
        if old in values:
            values[new] = values.pop(old)
