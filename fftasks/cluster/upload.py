"""Store a workflow's pipeline on the cluster."""

from __future__ import annotations

from fftasks.cluster.run import refuse_name
from fftasks.errors import StoreError
from fftasks.ports.kfp_catalog import Package, Version, upload_version
from fftasks.project import Project
from fftasks.record import read_record
from fftasks.stages.submit import describe, name_version
from fftasks.steps.outgoing import check_outgoing
from fftasks.steps.pipeline import keep_images, read_pipeline


def choose_workflows(project: Project, names: list[str]) -> list[str]:
    """Return the workflows that are meant; all if none is named. Raises ToolError with the nearest name."""
    known = list(project.workflows)
    for name in names:
        if name not in known:
            raise refuse_name(f"there is no workflow {name!r}", name, known)
    return names or known


def upload_workflow(project: Project, workflow: str) -> Version:
    """Store a workflow's compiled pipeline; the version is named by its digest, so equal ones are one.

    Raises StoreError if there is no pipeline, and what the port raises.
    """
    keep_images(project, workflow)
    record = read_record(project.record_path("pipeline", workflow))
    if record is None:
        raise StoreError(f"the pipeline of {workflow!r} is gone", tip="run `doit pipeline`")
    slug = project.workflows[workflow]["workflows"][workflow]["slug"]
    text = read_pipeline(project, slug)
    settings = project.settings.kfp
    package = Package(slug, name_version(record), describe(record, settings), text)
    check_outgoing(project, "the pipeline's version", text, package.description)
    return upload_version(settings, package)
