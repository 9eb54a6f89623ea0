"""The step of component files: one for each node, with its own image, also where nodes share a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fftasks.graph.docstring import read_docstring
from fftasks.paths import check_name, explain_name
from fftasks.project import Project
from fftasks.record import Record, digest_file, read_record, write_text
from fftasks.runtime.regular import is_regular, make_folder, remove
from fftasks.stages import components, kfp_tasks, pins
from fftasks.stages.means import settle_means
from fftasks.stages.secret import hide_tokens
from fftasks.steps.connect import find_gone
from fftasks.steps.image import plan_push
from fftasks.steps.outgoing import check_outgoing
from fftasks.steps.pinning import choose, make_wish
from fftasks.steps.step import Step, compare, need, run_step, shorten


def plan_components(project: Project, graph: Record, name: str) -> Step:
    """Return the step of the component files of a workflow."""
    path, needs = project.record_path("components", name), project.list_needs("components", name)
    folder = project.folder / "components" / graph["workflows"][name]["slug"]

    def find_parts() -> tuple[Record, pins.Wish]:
        parts = kfp_tasks.make(graph, name, preview=project.settings.kfp.preview)
        return parts, make_wish(project, name, parts, need(project.record_path("push")))

    def describe() -> tuple[Mapping[str, str], Mapping[str, Any]]:
        nodes = {i: graph["nodes"][i] for i in graph["workflows"][name]["nodes"]}
        descriptions = {i: describe_node(project, node, name) for i, node in nodes.items()}
        settings = project.list_settings(name)
        return descriptions, {i: settle_means(one, 1) for i, one in settings.items()}

    def list_reasons(old: Record | None) -> list[str]:
        parts, wish = find_parts()
        inputs = components.list_inputs(parts, {"inputs": pins.find_inputs(wish)}, *describe())
        reasons = compare(old, components.VERSION, inputs)
        if reasons or old is None:
            return reasons
        return [f"{file} was changed or removed" for file in _find_changed(folder, old["files"])]

    def make() -> Record:
        parts, wish = find_parts()
        old = _join_known(read_record(path), read_record(project.record_path("pins", name)))
        pinned = choose(project, wish, old)
        gone = find_gone(project, {task["reference"] for task in pinned["tasks"].values()})
        if gone:
            if wish.newest in gone:
                run_step(plan_push(project))
                parts, wish = find_parts()
            pinned = choose(project, wish, old, gone - {wish.newest})
        record, files = components.make(parts, pinned, *describe())
        check_outgoing(
            project, f"the component files of workflow {hide_tokens(name)!r}", *files.values()
        )
        make_folder(folder)
        for file in {one.name for one in folder.glob("*.yaml")} - set(files):
            remove(folder / file)
        for file, text in files.items():
            write_text(folder / check_name(file, "name of a component file"), text)
        return record

    return Step(
        path=path,
        needs=needs,
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: f"{len(record['files'])} files in {shorten(project, folder)}",
    )


def describe_node(project: Project, node: Record, workflow: str) -> str:
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
        if explain_name(file) or digest_there(folder / file) != digest:
            yield file


def _join_known(components_record: Record | None, pins_record: Record | None) -> Record | None:
    """Return a pins record with the images that both stages know of, so that both choose the same."""
    own = (components_record or {}).get("pins")
    if own is None or pins_record is None:
        return own or pins_record
    return {**pins_record, "known": [*pins_record["known"], *own["known"]]}
