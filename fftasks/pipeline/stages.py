"""The table of all stages, and the checks that are made before an image is built.

    stage        reads                                    makes
    context      the project's folder                     .fftasks/context/, a copy of the folder
    image        context, requirements, base image        image in the engine or .fftasks/
    push         image                                    digest of the image in the registry
    tasks        graph, kfp.fuse, durations of nodes      KFP tasks, each with one or several nodes
    pins         tasks, push, fingerprints of nodes       image of each task, by digest
    components   graph, push, pins                        .fftasks/components/WORKFLOW/NODE.yaml
    pipeline     tasks, pins, settings of nodes           .fftasks/pipeline/WORKFLOW.yaml
    submit       pipeline, run parameters, kfp.*          run on Kubeflow Pipelines

The stages up to push exist once per project, the later ones once per workflow. Which records a stage reads is
declared in project.STAGE_NEEDS. `doit run` imports this module even when it has nothing to do, so the module
of a stage is imported only when the stage is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from fftasks.errors import FFTasksError
from fftasks.project import STAGE_NEEDS, Project
from fftasks.records import Record, read_record
from fftasks.stage import Stage

_PUSHING = frozenset({"push", "pins", "components", "pipeline", "submit"})
# Stages whose output is sent to KFP, except the image.
SENT_STAGES = _PUSHING - {"push"} | {"tasks"}
PUSH_REASON = (
    "a component file names its image by the digest that a registry gives it, so that KFP's cache"
    " never serves the result of older code"
)


def plan_stage(project: Project, stage: str, workflow: str = "", *, again: bool = False) -> Stage:
    """Return a stage of the table above.

    Args:
        project: The current project.
        stage: Name of the stage.
        workflow: Name of the workflow, for the stages after push.
        again: Whether the stage is executed although it is up to date: submit starts another run of the same
            pipeline, image resolves the tag of its base image again. Other stages ignore it.
    """
    return _STAGES[stage](_StageRequest(project, workflow, again))


def find_last_stage(stages: Collection[str]) -> str:
    """Return the stage that the other ones are prerequisites of; "" if there are no stages."""
    order = tuple(STAGE_NEEDS)
    return max(STAGE_NEEDS.keys() & stages, key=order.index, default="")


class _StageRequest(NamedTuple):
    """The arguments of plan_stage."""

    project: Project
    workflow: str
    again: bool

    @property
    def graph(self) -> Record:
        """The graph record of the file that builds the workflow."""
        return self.project.workflows[self.workflow]


def _plan_context(request: _StageRequest) -> Stage:
    from fftasks.image.context import plan_context

    return plan_context(request.project)


def _plan_image(request: _StageRequest) -> Stage:
    from fftasks.image.build import plan_image

    return plan_image(request.project, update_base=request.again)


def _plan_push(request: _StageRequest) -> Stage:
    from fftasks.image.push import plan_push

    return plan_push(request.project)


def _plan_tasks(request: _StageRequest) -> Stage:
    from fftasks.pipeline.workflow_stages import plan_tasks

    return plan_tasks(request.project, request.graph, request.workflow)


def _plan_pins(request: _StageRequest) -> Stage:
    from fftasks.pipeline.workflow_stages import plan_pins

    return plan_pins(request.project, request.workflow)


def _plan_components(request: _StageRequest) -> Stage:
    from fftasks.pipeline.components import plan_components

    return plan_components(request.project, request.graph, request.workflow)


def _plan_pipeline(request: _StageRequest) -> Stage:
    from fftasks.pipeline.workflow_stages import plan_pipeline

    return plan_pipeline(request.project, request.graph, request.workflow)


def _plan_submit(request: _StageRequest) -> Stage:
    from fftasks.pipeline.workflow_stages import plan_submit

    return plan_submit(request.project, request.graph, request.workflow, again=request.again)


_STAGES: dict[str, Callable[[_StageRequest], Stage]] = {
    "context": _plan_context,
    "image": _plan_image,
    "push": _plan_push,
    "tasks": _plan_tasks,
    "pins": _plan_pins,
    "components": _plan_components,
    "pipeline": _plan_pipeline,
    "submit": _plan_submit,
}


def check_preconditions(project: Project, goal: str) -> None:
    """Check everything that would keep a new image from being used, before minutes are spent on building it.

    Args:
        project: The current project.
        goal: Last stage that was asked for; the checks of the stages after it are skipped.

    Raises:
        FFTasksError: The image could not be pushed, a setting of a node is invalid, or Kubeflow Pipelines
            would not accept a run.
    """
    if goal not in _PUSHING:
        return
    from fftasks.image.builders import find_image_repository
    from fftasks.registry.reference import check_docker_hub_owner

    why = f", and {PUSH_REASON}" if goal == "components" else ""
    with _explain_skipped_image(f"it could not be pushed{why}"):
        check_docker_hub_owner(find_image_repository(project))
    if goal in ("pipeline", "submit"):
        from fftasks.pipeline.ir_yaml import check_setting_placeholders
        from fftasks.pipeline.kubernetes import check_mounts

        for workflow, graph in project.workflows.items():
            for identity, settings in project.list_settings(workflow).items():
                name = graph["nodes"][identity]["name"]
                check_setting_placeholders(name, settings)
                check_mounts(name, settings)
    if goal == "submit" and _needs_run(project):
        from fftasks.kfp.client import check_experiment, check_host, find_experiment
        from fftasks.kfp.connection import connect

        with _explain_skipped_image("no run could be started with it"):
            check_experiment(project.settings.kfp)
            with connect(project.settings.kfp) as kfp:
                check_host(kfp, project.settings.kfp)
                # The health check works without credentials; this request fails without valid ones.
                find_experiment(kfp, project.settings.kfp)


def _needs_run(project: Project) -> bool:
    """Return whether a new image will lead to a run; it does not if only comments of the code changed."""
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


@contextmanager
def _explain_skipped_image(why: str) -> Iterator[None]:
    """Turn an error of a check into one that says why the image is not built."""
    try:
        yield
    except FFTasksError as error:
        raise type(error)(
            f"image: skipped because {why}",
            found=[error.attempted, *error.found],
            tip=error.tip or "`doit doctor` checks everything that is needed",
        ) from error


@contextmanager
def explain_push_errors(stage: str, goal: str) -> Iterator[None]:
    """Add to an error of stage push why `doit components` needs the push.

    Args:
        stage: Stage that is executed in the context.
        goal: Last stage that was asked for.
    """
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
