"""Stage pipeline: tasks and their images -> one pipeline document for Kubeflow Pipelines.

VERSION counts changes of what `make` gives for the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fftasks.errors import ToolError
from fftasks.record import Record, digest_bytes, digest_json
from fftasks.settings.nodes import NodeSettings
from fftasks.stages.document import Document, check_document, format_document, make_info
from fftasks.stages.kept import Kept, add_importers, take_kept
from fftasks.stages.kubernetes import check_mounts, check_platform, make_platform
from fftasks.stages.labels import relabel
from fftasks.stages.limits import Cluster, check_limits, check_sources
from fftasks.stages.means import settle_means
from fftasks.stages.resources import settle
from fftasks.stages.texts import check_texts

VERSION = 4


@dataclass(frozen=True)
class Options:
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
    cluster: Cluster = field(default_factory=Cluster)
    description: str = ""


def make(
    components: Record, pins: Record, options: Options, kept: Mapping[str, Kept] | None = None
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
    inputs = list_inputs(components, pins, options)
    taken = _find_taken(components, pins, kept or {})
    components = _take(components, taken)
    document = _make_document(components, pins, caching=options.caching)
    document["sdkVersion"] = f"fftasks-{options.version}"
    chosen = _choose_settings(components, options.settings)
    _settle(document, components, chosen, options.cluster)
    for name, one in taken.items():
        add_importers(document, components["tasks"][name]["slug"], one)
    platform = make_platform({_name_executor(components, n): s for n, s in chosen.items()})
    check_limits(components, document, options.cluster)
    check_sources(document)
    relabel(document, platform)
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


def sketch(
    components: Record,
    pins: Record,
    *,
    caching: bool,
    settings: Mapping[str, NodeSettings],
    kept: Mapping[str, Kept],
) -> Document:
    """Return the document that `make` would write, of tasks with a container only.

    What is shown, and what is for Kubernetes, is not in it.
    """
    components = _take(components, _find_taken(components, pins, kept))
    document = _make_document(components, pins, caching=caching)
    for name, chosen in _choose_settings(components, settings).items():
        executor = document["deploymentSpec"]["executors"][_name_executor(components, name)]
        settle(document["root"]["dag"]["tasks"][name], executor["container"], chosen)
    relabel(document, {})
    return document


def list_inputs(components: Record, pins: Record, options: Options) -> dict[str, Any]:
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


def _find_taken(components: Record, pins: Record, kept: Mapping[str, Kept]) -> dict[str, Kept]:
    """Return what each task takes from its last run; kept: by the fingerprints of tasks."""
    fingerprints = {name: pins["tasks"][name]["fingerprint"] for name in components["tasks"]}
    return {name: kept[one] for name, one in fingerprints.items() if one in kept}


def _take(components: Record, taken: Mapping[str, Kept]) -> Record:
    tasks = {name: take_kept(components["tasks"][name], one) for name, one in taken.items()}
    return {**components, "tasks": {**components["tasks"], **tasks}}


def _choose_settings(
    components: Record, settings: Mapping[str, NodeSettings]
) -> dict[str, NodeSettings]:
    """Return the settings of each task; nodes that share one have the same."""
    plain = NodeSettings()
    chosen = {}
    for name, task in components["tasks"].items():
        own = settings.get(task["nodes"][0], plain)
        chosen[name] = settle_means(own, len(task["nodes"]))
    return chosen


def _settle(
    document: Document, components: Record, chosen: Mapping[str, NodeSettings], cluster: Cluster
) -> None:
    """Put names to show, and what is set for nodes, into the tasks of a document and their executors."""
    for name, task in document["root"]["dag"]["tasks"].items():
        node = components["tasks"][name]["name"]
        shown = chosen[name].display_name or node
        task["taskInfo"] = {"name": shown if cluster.display_names else name}
        executor = document["deploymentSpec"]["executors"][_name_executor(components, name)]
        check_texts(node, chosen[name])
        check_mounts(node, chosen[name])
        settle(task, executor["container"], chosen[name])


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
