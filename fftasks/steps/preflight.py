"""What would keep an image from being of use: found out before minutes are spent on it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from fftasks.errors import FFTasksError
from fftasks.project import NEEDS, Project
from fftasks.record import read_record

_STAGES = tuple(NEEDS)
_PUSHING = frozenset({"push", "pins", "components", "pipeline", "submit"})
SENT = _PUSHING - {"push"} | {"tasks"}  # stages that make what is sent, besides the image
WHY_PUSHED = (
    "a component file names its image by the digest that a registry gives it, so that KFP's cache"
    " never serves the result of older code"
)


def choose_goal(stages: Collection[str]) -> str:
    """Return which of some stages is the last one, which the others are made for; "" if there is none."""
    return max(NEEDS.keys() & stages, key=_STAGES.index, default="")


def check_goal(project: Project, goal: str) -> None:
    """Raise what would keep a new image from being pushed, or Kubeflow Pipelines from taking a run of it.

    goal: the stage that the image is made for
    """
    if goal not in _PUSHING:
        return
    from fftasks.stages.push import check_owner
    from fftasks.steps.connect import name_repository

    why = f", and {WHY_PUSHED}" if goal == "components" else ""
    with _blamed(f"it could not be pushed{why}"):
        check_owner(name_repository(project))
    if goal in ("pipeline", "submit"):
        _check_settings(project)
    if goal == "submit" and _is_to_run(project):
        with _blamed("no run could be started with it"):
            _ask_host(project)


def _check_settings(project: Project) -> None:
    """Raise SettingsError for settings of a node that the stage pipeline would refuse."""
    from fftasks.stages.kubernetes import check_mounts
    from fftasks.stages.texts import check_texts

    for workflow, graph in project.workflows.items():
        for identity, chosen in project.list_settings(workflow).items():
            name = graph["nodes"][identity]["name"]
            check_texts(name, chosen)
            check_mounts(name, chosen)


def _is_to_run(project: Project) -> bool:
    """Tell whether a new image will lead to a run; one in which only a comment is new does not."""
    from fftasks.stages.image import find_inputs
    from fftasks.steps.recipe import make_recipe

    old = read_record(project.record_path("image"))
    runs = [read_record(project.record_path("submit", name)) for name in project.workflows]
    if old is None or None in runs:
        return True
    recipe = make_recipe(project)
    if recipe.resolved is None:
        return True
    return bool(find_inputs(recipe)["fingerprints"] != old["inputs"].get("fingerprints"))


def _ask_host(project: Project) -> None:
    from fftasks.ports.kfp import check_experiment, check_host, find_experiment
    from fftasks.ports.kfp_connection import connect

    settings = project.settings.kfp
    check_experiment(settings)
    with connect(settings) as kfp:
        check_host(kfp, settings)
        # unlike the question before, this one wants to know who asks
        find_experiment(kfp, settings)


@contextmanager
def explained(stage: str, goal: str) -> Iterator[None]:
    """Say of an error of the stage push why component files need it; commands/run.py notes the goal."""
    try:
        yield
    except FFTasksError as error:
        if (stage, goal) != ("push", "components"):
            raise
        raise type(error)(
            error.attempted,
            found=[*error.found, WHY_PUSHED],
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
