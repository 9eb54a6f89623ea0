"""The stage "image": when the image must be built, and its build."""

from __future__ import annotations

from pathlib import Path

from fftasks.image.base import ResolveBase, resolve_base
from fftasks.image.builders import choose_builder, make_builder
from fftasks.image.project_recipe import make_project_recipe
from fftasks.image.recipe import (
    IMAGE_VERSION,
    build_image,
    describe_image_inputs,
    list_image_inputs,
)
from fftasks.project import Project
from fftasks.records import Record, write_record
from fftasks.stage import Stage, list_input_changes


def plan_image(project: Project, *, update_base: bool = False) -> Stage:
    """Return the stage of the image.

    Args:
        project: The project.
        update_base: Whether to resolve the name of the base again.
    """

    def list_reasons(old: Record | None) -> list[str]:
        if update_base:
            return ["the base is resolved again"]
        recipe = make_project_recipe(project)
        if old is not None and recipe.resolved is None:
            return [f"{base_path.name} is missing, or is for another base"]
        inputs = list_image_inputs(recipe)
        reasons = list_input_changes(old, IMAGE_VERSION, inputs, describe_image_inputs)
        wanted = project.settings.image.builder
        if not reasons and old is not None and wanted not in ("auto", old["builder"]):
            return [f"setting image.builder: {old['builder']} -> {wanted}"]
        if not reasons and project.settings.image.check and not (old or {}).get("checked"):
            return ["its workflows have not been imported for a check"]
        return reasons

    def make() -> Record:
        from fftasks.image.check import check_image

        builder = make_builder(project, choose_builder(project))
        if update_base or make_project_recipe(project).resolved is None:
            _resolve_base(project, builder.resolve, update=update_base)
        recipe = make_project_recipe(project)
        record = build_image(recipe, build=builder.build, log=_find_log(project))
        return check_image(project, recipe, record, _find_log(project))

    base_path = project.record_path("base")
    return Stage(
        path=project.record_path("image"),
        needs=project.list_needs("image"),
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: _describe_image(project, record),
    )


def _describe_image(project: Project, record: Record) -> str:
    how = ", built without an engine" if record["builder"] == "oci" else ""
    return f"{record['output'][:19]} on {project.settings.image.base}{how}"


def _resolve_base(project: Project, resolve: ResolveBase, *, update: bool) -> None:
    """Resolve the base, also if it is recorded in case of `update`, and write its record."""
    settings = project.settings.image
    record = resolve_base(
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
