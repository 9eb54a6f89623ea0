"""Stages put together: what each one reads, what it makes, and which port does its work outside.

context ──▶ image ──▶ push ──┐     ┌─▶ components
graph ────▶ tasks ───────────┼─▶ pins ──▶ pipeline ──▶ submit
"""

from __future__ import annotations

from fftasks.project import Project
from fftasks.steps.step import Step


def plan(project: Project, stage: str, workflow: str = "", *, again: bool = False) -> Step:
    """Return the step of a stage; those below push are made for each workflow.

    again: of submit, start a new run, also if there is one of the same pipeline; of image, look at
    the base again
    """
    # each side is imported by who needs it: a push with nothing to do has no use for pipelines
    if stage in ("context", "image", "push"):
        from fftasks.steps import image

        if stage == "image":
            return image.plan_image(project, update_base=again)
        shared = {"context": image.plan_context, "push": image.plan_push}
        return shared[stage](project)
    from fftasks.steps import pipeline

    graph = project.workflows[workflow]
    if stage == "submit":
        return pipeline.plan_submit(project, graph, workflow, again=again)
    if stage == "pins":
        return pipeline.plan_pins(project, workflow)
    if stage == "components":
        from fftasks.steps.components import plan_components

        return plan_components(project, graph, workflow)
    makers = {"tasks": pipeline.plan_tasks, "pipeline": pipeline.plan_pipeline}
    return makers[stage](project, graph, workflow)
