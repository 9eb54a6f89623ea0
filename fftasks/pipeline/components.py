"""Stage components: write one component file per node, which other people's pipelines load with KFP's SDK.

A file names its image by digest and has the node's fingerprint in its arguments, as the container of our own
pipeline has: KFP's cache key contains both, so another pipeline never gets the result of older code. There is
one file per node, also where our own pipeline runs several nodes in one task.

VERSION counts changes of what make_component_files returns for the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.config.node_settings import NodeSettings
from fftasks.graph.record import read_docstring
from fftasks.image.builders import find_missing_images
from fftasks.image.push import plan_push
from fftasks.path_validation import check_path_name, explain_unsafe_name
from fftasks.pipeline import pins
from fftasks.pipeline.ir_yaml import (
    MAX_DESCRIPTION,
    Document,
    check_document,
    check_setting_placeholders,
    format_document,
    make_info,
)
from fftasks.pipeline.kubernetes import make_pod_settings
from fftasks.pipeline.pins import choose_pins, make_pin_request
from fftasks.pipeline.secret_check import check_outgoing
from fftasks.pipeline.task_specs import make_tasks_record
from fftasks.project import Project
from fftasks.records import (
    Record,
    digest_bytes,
    digest_file,
    digest_json,
    read_record,
    write_if_changed,
)
from fftasks.runner.executor_input import PREVIEW
from fftasks.secrets.scanner import hide_tokens
from fftasks.stage import Stage, display_path, execute_stage, list_input_changes, require_record
from fftasks.state_folder import is_regular, make_folder, remove

VERSION = 5
_DEFAULTS = NodeSettings()


def make_component_files(
    parts: Record,
    pins: Record,
    descriptions: Mapping[str, str],
    settings: Mapping[str, NodeSettings],
) -> tuple[Record, dict[str, str]]:
    """Return the record of a workflow's component files, and the files.

    Args:
        parts: Record of stage tasks, with one task for each node.
        pins: Record of stage pins for these tasks: image by digest and fingerprint of each task.
        descriptions: Id of a node -> description in its file.
        settings: Id of a node -> its settings; a file contains `env` and `cache` only.

    Returns:
        The record, whose `files` maps file names to digests, and a mapping from file name to YAML.

    Raises:
        SettingsError: KFP or Kubernetes would change the value of an environment variable.
    """
    files = {}
    for name, task in parts["tasks"].items():
        (node,) = task["nodes"]
        own = settings.get(node, _DEFAULTS)
        check_setting_placeholders(task["name"], own, "env")
        document = _make_document(task, pins["tasks"][name], own, descriptions[node])
        check_document(document)
        files[f"{task['slug']}.yaml"] = format_document(document, descriptions[node])
    digests = {name: digest_bytes(text.encode()) for name, text in files.items()}
    record = {
        "stage": "components",
        "version": VERSION,
        "inputs": list_component_inputs(parts, pins, descriptions, settings),
        "output": digest_json(digests),
        "workflow": parts["workflow"],
        "slug": parts["slug"],
        "files": digests,
        "pins": dict(pins),
    }
    return record, files


def list_component_inputs(
    parts: Record,
    pins: Record,
    descriptions: Mapping[str, str],
    settings: Mapping[str, NodeSettings],
) -> dict[str, Any]:
    """Return the inputs in the record that make_component_files would return.

    Args:
        parts: Record of stage tasks, with one task for each node.
        pins: Mapping with the `inputs` of stage pins for these tasks.
        descriptions: Id of a node -> description in its file.
        settings: Id of a node -> its settings.
    """
    names = {node: task["name"] for task in parts["tasks"].values() for node in task["nodes"]}
    return {
        "tasks": parts["output"],
        **{f"images, {name}": value for name, value in pins["inputs"].items()},
        **{f"description of {names[node]}": text for node, text in descriptions.items()},
        **{
            f"settings of {names[node]}": digest_json([own.env, own.cache])
            for node, own in settings.items()
            if own.env or not own.cache
        },
    }


def _make_document(
    task: Document, pin: Record, settings: NodeSettings, description: str
) -> Document:
    """Return a component as a pipeline of one task, the form that KFP's SDK loads."""
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

    The container has no `env`, because the compiler of KFP's SDK (2.17 at least) fails on a loaded component
    that has one. Instead, the command `env` sets the variables; the fingerprint contains them. FFFUNCTION is
    not needed, because the arguments contain the name of the node.

    Args:
        task: Task of one node.
        pin: Its `reference` and `fingerprint`, from stage pins.
        settings: Settings of the node.
    """
    preview = {PREVIEW: task["env"][PREVIEW]} if PREVIEW in task["env"] else {}
    variables = [f"{name}={value}" for name, value in sorted({**settings.env, **preview}.items())]
    fingerprint = ["--fingerprint", pin["fingerprint"]] if pin["fingerprint"] else []
    return {
        "image": pin["reference"],
        "command": [*(["env", *variables] if variables else []), *task["command"]],
        "args": [*task["args"], *fingerprint],
    }


def plan_components(project: Project, graph: Record, name: str) -> Stage:
    """Return stage components of a workflow: graph and records of push and pins -> one file for each node.

    Args:
        project: The current project.
        graph: Graph record of the file that builds the workflow.
        name: Name of the workflow.
    """
    path, needs = project.record_path("components", name), project.list_needs("components", name)
    folder = project.folder / "components" / graph["workflows"][name]["slug"]

    def make_parts() -> tuple[Record, pins.PinRequest]:
        parts = make_tasks_record(graph, name, preview=project.settings.kfp.preview)
        pushed = require_record(project.record_path("push"))
        return parts, make_pin_request(project, name, parts, pushed)

    def describe_nodes() -> tuple[Mapping[str, str], Mapping[str, Any]]:
        nodes = {i: graph["nodes"][i] for i in graph["workflows"][name]["nodes"]}
        descriptions = {i: describe_component(project, node, name) for i, node in nodes.items()}
        settings = project.list_settings(name)
        return descriptions, {i: make_pod_settings(own, 1) for i, own in settings.items()}

    def list_reasons(old: Record | None) -> list[str]:
        parts, request = make_parts()
        pin_inputs = {"inputs": pins.list_pin_inputs(request)}
        inputs = list_component_inputs(parts, pin_inputs, *describe_nodes())
        reasons = list_input_changes(old, VERSION, inputs)
        if reasons or old is None:
            return reasons
        return [
            f"{file} was changed or removed"
            for file, digest in old["files"].items()
            if explain_unsafe_name(file) or digest_if_exists(folder / file) != digest
        ]

    def execute() -> Record:
        parts, request = make_parts()
        old = _merge_known_pins(read_record(path), read_record(project.record_path("pins", name)))
        pinned = choose_pins(project, request, old)
        references = {task["reference"] for task in pinned["tasks"].values()}
        missing = find_missing_images(project, references)
        if missing:
            if request.newest in missing:
                execute_stage(plan_push(project))
                parts, request = make_parts()
            pinned = choose_pins(project, request, old, missing - {request.newest})
        record, files = make_component_files(parts, pinned, *describe_nodes())
        check_outgoing(
            project, f"the component files of workflow {hide_tokens(name)!r}", *files.values()
        )
        make_folder(folder)
        for file in {existing.name for existing in folder.glob("*.yaml")} - set(files):
            remove(folder / file)
        for file, text in files.items():
            write_if_changed(folder / check_path_name(file, "name of a component file"), text)
        return record

    return Stage(
        path=path,
        needs=needs,
        list_reasons=list_reasons,
        make=execute,
        describe=lambda record: f"{len(record['files'])} files in {display_path(project, folder)}",
    )


def describe_component(project: Project, node: Record, workflow: str) -> str:
    """Return the description of a component: the docstring of the function, and where it is defined.

    Args:
        project: The current project, whose source files are read.
        node: Node of the graph record.
        workflow: Name of the workflow.
    """
    function = node["function"]
    place = f"{function['qualname']} in {function['file'] or function['module']}"
    where = f"node {node['name']!r} of workflow {workflow!r}: {place}"
    if not function["file"]:
        return where
    path = project.root / function["file"]
    text = hide_tokens(read_docstring(path, function["qualname"], function["line"]))
    return f"{text}\n\n{where}" if text else where


def describe_workflow(project: Project, graph: Record) -> str:
    """Return the description of a workflow: the docstring of the file that builds it."""
    return hide_tokens(read_docstring(project.root / graph["file"]))


def digest_if_exists(path: Path) -> str | None:
    """Return the digest of a regular file, or None if there is none."""
    return digest_file(path) if is_regular(path) else None


def _merge_known_pins(
    components_record: Record | None, pins_record: Record | None
) -> Record | None:
    """Return a pins record with the known images of both stages, so that both choose the same images."""
    own = (components_record or {}).get("pins")
    if own is None or pins_record is None:
        return own or pins_record
    return {**pins_record, "known": [*pins_record["known"], *own["known"]]}
