"""Stage components: a file for each node, which pipelines of other people load with KFP's SDK.

A file names its image by digest and has the node's fingerprint in its arguments, as the container of our own
pipeline has: KFP's cache key holds both, so that another pipeline is never served the result of older code.
There is one file per node, also where our own pipeline lets several nodes share a task.

VERSION counts changes of what `make` gives for the same inputs.

The step of component files: one for each node, with its own image, also where nodes share a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
_PLAIN = NodeSettings()


def make_component_files(
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
        check_setting_placeholders(task["name"], chosen, "env")
        document = _make_document(task, pins["tasks"][name], chosen, descriptions[node])
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


def plan_components(project: Project, graph: Record, name: str) -> Stage:
    """Return the step of the component files of a workflow."""
    path, needs = project.record_path("components", name), project.list_needs("components", name)
    folder = project.folder / "components" / graph["workflows"][name]["slug"]

    def find_parts() -> tuple[Record, pins.PinRequest]:
        parts = make_tasks_record(graph, name, preview=project.settings.kfp.preview)
        return parts, make_pin_request(
            project, name, parts, require_record(project.record_path("push"))
        )

    def describe() -> tuple[Mapping[str, str], Mapping[str, Any]]:
        nodes = {i: graph["nodes"][i] for i in graph["workflows"][name]["nodes"]}
        descriptions = {i: describe_component(project, node, name) for i, node in nodes.items()}
        settings = project.list_settings(name)
        return descriptions, {i: make_pod_settings(one, 1) for i, one in settings.items()}

    def list_reasons(old: Record | None) -> list[str]:
        parts, wish = find_parts()
        inputs = list_component_inputs(parts, {"inputs": pins.list_pin_inputs(wish)}, *describe())
        reasons = list_input_changes(old, VERSION, inputs)
        if reasons or old is None:
            return reasons
        return [f"{file} was changed or removed" for file in _find_changed(folder, old["files"])]

    def make() -> Record:
        parts, wish = find_parts()
        old = _merge_known_pins(read_record(path), read_record(project.record_path("pins", name)))
        pinned = choose_pins(project, wish, old)
        gone = find_missing_images(
            project, {task["reference"] for task in pinned["tasks"].values()}
        )
        if gone:
            if wish.newest in gone:
                execute_stage(plan_push(project))
                parts, wish = find_parts()
            pinned = choose_pins(project, wish, old, gone - {wish.newest})
        record, files = make_component_files(parts, pinned, *describe())
        check_outgoing(
            project, f"the component files of workflow {hide_tokens(name)!r}", *files.values()
        )
        make_folder(folder)
        for file in {one.name for one in folder.glob("*.yaml")} - set(files):
            remove(folder / file)
        for file, text in files.items():
            write_if_changed(folder / check_path_name(file, "name of a component file"), text)
        return record

    return Stage(
        path=path,
        needs=needs,
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: f"{len(record['files'])} files in {display_path(project, folder)}",
    )


def describe_component(project: Project, node: Record, workflow: str) -> str:
    """Return what a component file says about its node: the function's docstring, and where it stands."""
    function = node["function"]
    place = f"{function['qualname']} in {function['file'] or function['module']}"
    where = f"node {node['name']!r} of workflow {workflow!r}: {place}"
    if not function["file"]:
        return where
    path = project.root / function["file"]
    text = hide_tokens(read_docstring(path, function["qualname"], function["line"]))
    return f"{text}\n\n{where}" if text else where


def describe_workflow(project: Project, graph: Record) -> str:
    """Return what a pipeline says about its workflow: the docstring of the file that builds it."""
    return hide_tokens(read_docstring(project.root / graph["file"]))


def digest_there(path: Path) -> str | None:
    """Return the digest of a file, or None if there is none."""
    return digest_file(path) if is_regular(path) else None


def _find_changed(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    for file, digest in files.items():
        if explain_unsafe_name(file) or digest_there(folder / file) != digest:
            yield file


def _merge_known_pins(
    components_record: Record | None, pins_record: Record | None
) -> Record | None:
    """Return a pins record with the images that both stages know of, so that both choose the same."""
    own = (components_record or {}).get("pins")
    if own is None or pins_record is None:
        return own or pins_record
    return {**pins_record, "known": [*pins_record["known"], *own["known"]]}
