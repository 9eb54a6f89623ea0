"""Stages put together: what each one reads, what it makes, and which port does its work outside.

context ──▶ image ──▶ push ──┐
graph ────▶ components ──────┼─▶ pins ──▶ pipeline ──▶ submit
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fftasks.connect import choose_builder, find_gone, make_builder, name_repository
from fftasks.errors import StoreError
from fftasks.grouping import describe_grouping, describe_tasks, find_grouping, name_choice
from fftasks.keeping import find_kept, name_members
from fftasks.pinning import choose, make_wish
from fftasks.project import Project
from fftasks.recipe import make_recipe
from fftasks.record import (
    Record,
    digest_file,
    digest_json,
    explain,
    read_record,
    write_record,
    write_text,
)
from fftasks.smoke import try_image
from fftasks.stages import base, components, context, image, pins, pipeline, push, report, submit
from fftasks.stages.kept import Kept

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One stage of one project, or of one workflow in it.

    path: its record; needs: the records that it reads
    list_reasons: why it must be made, given its record (or None); empty if it is up to date
    make: does it, and returns the record
    describe: what the record holds, for people
    """

    path: Path
    needs: tuple[Path, ...]
    list_reasons: Callable[[Record | None], list[str]]
    make: Callable[[], Record]
    describe: Callable[[Record], str]


def run_step(step: Step) -> None:
    """Make what the step makes, and record it."""
    write_record(step.path, step.make())


def is_current(step: Step) -> bool:
    """Tell whether a step is up to date; one whose needs are not there is not."""
    if not all(read_record(path) for path in step.needs):
        return False
    return not step.list_reasons(read_record(step.path))


def plan(project: Project, stage: str, workflow: str = "", *, again: bool = False) -> Step:
    """Return the step of a stage; the last four stages are made for each workflow.

    again: of submit, start a new run, also if there is one of the same pipeline; of image, look at
    the base again
    """
    if stage == "image":
        return _plan_image(project, update_base=again)
    shared = {"context": _plan_context, "push": _plan_push}
    if stage in shared:
        return shared[stage](project)
    graph = project.workflows[workflow]
    if stage == "submit":
        return _plan_submit(project, graph, workflow, again=again)
    if stage == "pins":
        return _plan_pins(project, workflow)
    return {"components": _plan_components, "pipeline": _plan_pipeline}[stage](
        project, graph, workflow
    )


def _plan_context(project: Project) -> Step:
    settings = project.settings.context
    folder = (project.root / settings.folder).resolve()
    path, target = project.record_path("context"), project.folder / "context"
    log = project.folder / "logs" / "context.txt"

    def make() -> Record:
        record = context.make(folder, target, settings)
        write_text(log, report.format_report(record, read_record(path)))
        return record

    return Step(
        path=path,
        needs=project.list_needs("context"),
        list_reasons=lambda old: context.look(folder, target, settings, previous=old),
        make=make,
        describe=lambda record: "\n   ".join(report.describe(record, _read_text(log))),
    )


def _plan_image(project: Project, *, update_base: bool = False) -> Step:
    def list_reasons(old: Record | None) -> list[str]:
        if update_base:
            return ["the base is to be looked at again"]
        recipe = make_recipe(project)
        if old is not None and recipe.resolved is None:
            return [f"{base_path.name} is gone, or of another base"]
        reasons = _compare(old, image.VERSION, image.find_inputs(recipe))
        wanted = project.settings.image.builder
        if not reasons and old is not None and wanted not in ("auto", old["builder"]):
            return [f"builder: {old['builder']} -> {wanted}"]
        if not reasons and project.settings.image.check and not (old or {}).get("checked"):
            return ["nobody has tried to import its workflows"]
        return reasons

    def make() -> Record:
        builder = make_builder(project, choose_builder(project))
        if update_base or make_recipe(project).resolved is None:
            _resolve_base(project, builder.resolve, update=update_base)
        recipe = make_recipe(project)
        record = image.make(recipe, build=builder.build, log=_find_log(project))
        return try_image(project, recipe, record, _find_log(project))

    base_path = project.record_path("base")
    return Step(
        path=project.record_path("image"),
        needs=project.list_needs("image"),
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: _describe_image(project, record),
    )


def _describe_image(project: Project, record: Record) -> str:
    how = ", made without an engine" if record["builder"] == "oci" else ""
    return f"{record['output'][:19]} on {project.settings.image.base}{how}"


def _plan_push(project: Project) -> Step:
    tag = project.settings.image.tag
    built = project.record_path("image")

    def list_reasons(old: Record | None) -> list[str]:
        inputs = push.find_inputs(_need(built), name_repository(project), tag)
        return _compare(old, push.VERSION, inputs)

    def make() -> Record:
        try:
            return _send_image(project, _need(built))
        except push.ImageGoneError:  # somebody has tidied up the engine
            run_step(_plan_image(project))
            return _send_image(project, _need(built))

    return Step(
        path=project.record_path("push"),
        needs=project.list_needs("push"),
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: str(record["reference"]),
    )


def _plan_components(project: Project, graph: Record, name: str) -> Step:
    slug = graph["workflows"][name]["slug"]
    folder = project.folder / "components" / slug

    def build(old: Record | None) -> tuple[Record, dict[str, str]]:
        reference = f"{name_repository(project)}:{project.settings.image.tag}"
        grouping = find_grouping(project, name, old)
        preview = project.settings.kfp.preview
        record, files = components.make(graph, name, reference, grouping, preview=preview)
        return {**record, "grouping": describe_grouping(grouping)}, files

    def list_reasons(old: Record | None) -> list[str]:
        if old is None or old.get("graph") != _name_graph(project, graph, name):
            return _compare(old, components.VERSION, build(old)[0]["inputs"])
        return [f"{file} was changed or removed" for file in _find_changed(folder, old["files"])]

    def make() -> Record:
        record, files = build(read_record(project.record_path("components", name)))
        for file in set(_list_yaml(folder)) - set(files):
            (folder / file).unlink()
        for file, text in files.items():
            write_text(folder / file, text)
        return {**record, "graph": _name_graph(project, graph, name)}

    return Step(
        path=project.record_path("components", name),
        needs=project.list_needs("components", name),
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: f"{describe_tasks(record)} in {_shorten(project, folder)}",
    )


def _plan_pins(project: Project, name: str, gone: Collection[str] = ()) -> Step:
    path, needs = project.record_path("pins", name), project.list_needs("pins", name)

    def find_wish() -> pins.Wish:
        return make_wish(project, name, *map(_need, needs))

    return Step(
        path=path,
        needs=needs,
        list_reasons=lambda old: list(pins.list_reasons(old, find_wish())),
        make=lambda: choose(project, find_wish(), read_record(path), gone),
        describe=pins.describe,
    )


def _plan_pipeline(project: Project, graph: Record, name: str) -> Step:
    slug = graph["workflows"][name]["slug"]
    needs = project.list_needs("pipeline", name)
    text_path = project.folder / "pipeline" / f"{slug}.yaml"

    def build() -> tuple[Record, str]:
        parts, pinned = map(_need, needs)
        caching = project.settings.kfp.caching
        old = read_record(project.record_path("pipeline", name)) or {}
        known = find_kept(project, name, parts, pinned, old.get("kept", {})) if caching else {}
        record, text = pipeline.make(
            parts,
            pinned,
            caching=caching,
            version=_version(),
            settings=project.list_settings(name),
            kept={key: Kept(**one) for key, one in known.items() if one},
        )
        return {**record, "kept": known}, text

    def list_reasons(old: Record | None) -> list[str]:
        parts, pinned = map(_need, needs)
        inputs = pipeline.list_inputs(
            parts,
            pinned,
            caching=project.settings.kfp.caching,
            version=_version(),
            settings=project.list_settings(name),
        )
        reasons = _compare(old, pipeline.VERSION, inputs)
        is_there = old is not None and _digest_there(text_path) == old["output"]
        return reasons if reasons or is_there else [f"{text_path.name} was changed or removed"]

    def make() -> Record:
        record, text = build()
        write_text(text_path, text)
        return record

    return Step(
        path=project.record_path("pipeline", name),
        needs=needs,
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: f"{_shorten(project, text_path)} {record['output'][:19]}",
    )


def _plan_submit(project: Project, graph: Record, name: str, *, again: bool) -> Step:
    slug = graph["workflows"][name]["slug"]
    needed = project.record_path("pipeline", name)
    settings = project.settings.kfp

    def list_reasons(old: Record | None) -> list[str]:
        if again:
            return ["a new run is asked for"]
        inputs = submit.list_inputs(_need(needed), settings, project.list_values(name))
        reasons = _compare(old, submit.VERSION, inputs)
        if reasons or old is None:
            return reasons
        from fftasks.ports.kfp import read_state

        state = read_state(settings, old["run_id"])
        return [f"its run is {state}"] if submit.is_lost(state) else []

    def make() -> Record:
        from fftasks.ports.kfp import start_run

        keep_images(project, name)
        text = (project.folder / "pipeline" / f"{slug}.yaml").read_text("utf-8")
        record = submit.make(_need(needed), text, settings, start_run, project.list_values(name))
        parts, pinned = (
            _need(project.record_path(stage, name)) for stage in ("components", "pins")
        )
        return {**record, "groups": name_members(project, name, parts, pinned)}

    return Step(
        path=project.record_path("submit", name),
        needs=project.list_needs("submit", name),
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: f"run {record['run_id']}: {record['url']}",
    )


def keep_images(project: Project, name: str) -> None:
    """See to it that all images that a run of a workflow would need are in the registry.

    The newest is pushed again if it has gone from there. Tasks whose older image has gone run the newest,
    and the pipeline is compiled again.
    """
    gone = find_gone(project, list_references(project, name))
    if not gone:
        return
    pushed = project.record_path("push")
    if find_gone(project, [_need(pushed)["reference"]]):
        run_step(_plan_push(project))
    run_step(_plan_pins(project, name, gone - {_need(pushed)["reference"]}))
    step = _plan_pipeline(project, project.workflows[name], name)
    if not is_current(step):
        run_step(step)


def list_references(project: Project, name: str) -> set[str]:
    """Return the images that a run of a workflow would need."""
    record = read_record(project.record_path("pins", name))
    return {task["reference"] for task in record["tasks"].values()} if record else set()


def _send_image(project: Project, record: Record) -> Record:
    sender = make_builder(project, record["builder"])
    repository, tag = name_repository(project), project.settings.image.tag
    return push.make(record, push=sender.push, repository=repository, tag=tag)


def _resolve_base(project: Project, resolve: base.Resolve, *, update: bool) -> None:
    """Look up the base and record what it is; update: ask its registry, if it has one, again."""
    settings = project.settings.image
    record = base.make(
        settings.base,
        settings.platform,
        resolve=resolve,
        origin=project.settings.origin("image.base"),
        log=_find_log(project),
        update=update,
    )
    write_record(project.record_path("base"), record)


def _find_log(project: Project) -> Path:
    return project.folder / "logs" / "image.txt"


def _name_graph(project: Project, graph: Record, name: str) -> str:
    """Return the digest of what components are made of: of a graph all but its code."""
    seen = ("name", "slug", "kind", "line", "function", "inputs", "upstream", "arguments")
    workflow = graph["workflows"][name]
    nodes = {
        node: {key: graph["nodes"][node][key] for key in (*seen, "parameters", "shows")}
        for node in workflow["nodes"]
    }
    image = name_repository(project), project.settings.image.tag
    choice = project.settings.kfp.preview, name_choice(project, name)
    return digest_json([nodes, workflow["parameters"], graph["file"], image, choice])


def _compare(old: Record | None, version: int, inputs: Inputs) -> list[str]:
    if old is not None and old.get("version") != version:
        return ["fftasks makes it in another way now"]
    return list(explain(old and old["inputs"], inputs))


def _need(path: Path) -> Record:
    record = read_record(path)
    if record is None:
        raise StoreError(f"{path} is gone or damaged", tip="it is made again: run once more")
    return record


def _find_changed(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    yield from (file for file, digest in files.items() if _digest_there(folder / file) != digest)


def _digest_there(path: Path) -> str | None:
    return digest_file(path) if path.is_file() else None


def _list_yaml(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.yaml")]


def _shorten(project: Project, path: Path) -> str:
    return path.relative_to(project.root).as_posix()


def _read_text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def _version() -> str:
    from fftasks import __version__

    return __version__
