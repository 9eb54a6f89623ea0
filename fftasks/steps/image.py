"""The steps that a project's image takes: its context, the image, and the way into the registry."""

from __future__ import annotations

from pathlib import Path

from fftasks.project import Project
from fftasks.record import Record, read_record, write_record, write_text
from fftasks.runtime.regular import is_regular, read_text
from fftasks.stages import base, context, image, push, report
from fftasks.steps.connect import choose_builder, make_builder, name_repository
from fftasks.steps.recipe import make_recipe
from fftasks.steps.step import Step, compare, need, run_step


def plan_context(project: Project) -> Step:
    """Return the step of the context; its log says what differs from the one before."""
    settings = project.settings.context
    folder = (project.root / settings.folder).resolve()
    path, target = project.record_path("context"), project.folder / "context"
    log = project.folder / "logs" / "context.stage.txt"

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


def plan_image(project: Project, *, update_base: bool = False) -> Step:
    """Return the step of the image. update_base: ask its registry what the base is now."""

    def list_reasons(old: Record | None) -> list[str]:
        if update_base:
            return ["the base is to be looked at again"]
        recipe = make_recipe(project)
        if old is not None and recipe.resolved is None:
            return [f"{base_path.name} is gone, or of another base"]
        inputs = image.find_inputs(recipe)
        reasons = compare(old, image.VERSION, inputs, image.spell_inputs)
        wanted = project.settings.image.builder
        if not reasons and old is not None and wanted not in ("auto", old["builder"]):
            return [f"setting image.builder: {old['builder']} -> {wanted}"]
        if not reasons and project.settings.image.check and not (old or {}).get("checked"):
            return ["nobody has tried to import its workflows"]
        return reasons

    def make() -> Record:
        from fftasks.steps.smoke import try_image

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


def plan_push(project: Project) -> Step:
    """Return the step of the push; it builds the image again if it has gone."""
    tag = project.settings.image.tag
    built = project.record_path("image")

    def list_reasons(old: Record | None) -> list[str]:
        inputs = push.find_inputs(need(built), name_repository(project), tag)
        return compare(old, push.VERSION, inputs, push.spell_inputs)

    def make() -> Record:
        try:
            return _send_image(project, need(built))
        except push.ImageGoneError:  # somebody has tidied up the engine
            run_step(plan_image(project))
            return _send_image(project, need(built))

    return Step(
        path=project.record_path("push"),
        needs=project.list_needs("push"),
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: str(record["reference"]),
    )


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
    return project.folder / "logs" / "image.stage.txt"


def _read_text(path: Path) -> str:
    return read_text(path) if is_regular(path) else ""
