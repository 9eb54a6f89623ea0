"""Stages put together: what each one reads, what it makes, and which port does its work outside.

context ──▶ image ──▶ push ──┐     ┌─▶ components
graph ────▶ tasks ───────────┼─▶ pins ──▶ pipeline ──▶ submit

What would keep an image from being of use: found out before minutes are spent on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from fftasks.errors import FFTasksError
from fftasks.project import STAGE_NEEDS, Project
from fftasks.records import read_record
from fftasks.stage import Stage


def plan_stage(project: Project, stage: str, workflow: str = "", *, again: bool = False) -> Stage:
    """Return the step of a stage; those below push are made for each workflow.

    again: of submit, start a new run, also if there is one of the same pipeline; of image, look at
    the base again
    """
    # Each stage is imported only where it is needed: `doit run` and a push that is up to date load none of them.
    if stage == "context":
        from fftasks.image.context import plan_context

        return plan_context(project)
    if stage == "image":
        from fftasks.image.build import plan_image

        return plan_image(project, update_base=again)
    if stage == "push":
        from fftasks.image.push import plan_push

        return plan_push(project)
    from fftasks.pipeline.workflow_stages import plan_pins, plan_pipeline, plan_submit, plan_tasks

    graph = project.workflows[workflow]
    if stage == "submit":
        return plan_submit(project, graph, workflow, again=again)
    if stage == "pins":
        return plan_pins(project, workflow)
    if stage == "components":
        from fftasks.pipeline.components import plan_components

        return plan_components(project, graph, workflow)
    makers = {"tasks": plan_tasks, "pipeline": plan_pipeline}
    return makers[stage](project, graph, workflow)


_STAGES = tuple(STAGE_NEEDS)
_PUSHING = frozenset({"push", "pins", "components", "pipeline", "submit"})
SENT_STAGES = _PUSHING - {"push"} | {"tasks"}  # stages that make what is sent, besides the image
PUSH_REASON = (
    "a component file names its image by the digest that a registry gives it, so that KFP's cache"
    " never serves the result of older code"
)


def find_last_stage(stages: Collection[str]) -> str:
    """Return which of some stages is the last one, which the others are made for; "" if there is none."""
    return max(STAGE_NEEDS.keys() & stages, key=_STAGES.index, default="")


def check_preconditions(project: Project, goal: str) -> None:
    """Raise what would keep a new image from being pushed, or Kubeflow Pipelines from taking a run of it.

    goal: the stage that the image is made for
    """
    if goal not in _PUSHING:
        return
    from fftasks.image.builders import find_image_repository
    from fftasks.registry.reference import check_docker_hub_owner

    why = f", and {PUSH_REASON}" if goal == "components" else ""
    with _blamed(f"it could not be pushed{why}"):
        check_docker_hub_owner(find_image_repository(project))
    if goal in ("pipeline", "submit"):
        _check_settings(project)
    if goal == "submit" and _is_to_run(project):
        with _blamed("no run could be started with it"):
            _ask_host(project)


def _check_settings(project: Project) -> None:
    """Raise SettingsError for settings of a node that the stage pipeline would refuse."""
    from fftasks.pipeline.ir_yaml import check_setting_placeholders
    from fftasks.pipeline.kubernetes import check_mounts

    for workflow, graph in project.workflows.items():
        for identity, chosen in project.list_settings(workflow).items():
            name = graph["nodes"][identity]["name"]
            check_setting_placeholders(name, chosen)
            check_mounts(name, chosen)


def _is_to_run(project: Project) -> bool:
    """Tell whether a new image will lead to a run; one in which only a comment is new does not."""
    from fftasks.image.project_recipe import make_project_recipe
    from fftasks.image.recipe import list_image_inputs

    old = read_record(project.record_path("image"))
    runs = [read_record(project.record_path("submit", name)) for name in project.workflows]
    if old is None or None in runs:
        return True
    recipe = make_project_recipe(project)
    if recipe.resolved is None:
        return True
    return bool(list_image_inputs(recipe)["fingerprints"] != old["inputs"].get("fingerprints"))


def _ask_host(project: Project) -> None:
    from fftasks.kfp.client import check_experiment, check_host, find_experiment
    from fftasks.kfp.connection import connect

    settings = project.settings.kfp
    check_experiment(settings)
    with connect(settings) as kfp:
        check_host(kfp, settings)
        # unlike the question before, this one wants to know who asks
        find_experiment(kfp, settings)


@contextmanager
def explain_push_errors(stage: str, goal: str) -> Iterator[None]:
    """Say of an error of the stage push why component files need it; commands/run.py notes the goal."""
    try:
        yield
    except FFTasksError as error:
        if (stage, goal) != ("push", "components"):
            raise
        raise type(error)(
            error.attempted,
            found=[*error.found, PUSH_REASON],
            tip=error.tip
            or "set registry.server, registry.repository, and credentials that may push",
        ) from error


@contextmanager
def _blamed(why: str) -> Iterator[None]:
    """Say of an error that it is one of later, and that the image has to wait for it."""
    try:
        yield
    except FFTasksError as error:
        raise type(error)(
            f"image: skipped because {why}",
            found=[error.attempted, *error.found],
            tip=error.tip or "`doit doctor` looks at all that is needed",
        ) from error
