"""A project with a run on the KFP test server, submitted by the stages but without an image."""

from __future__ import annotations

from fftasks.kfp.client import start_run
from fftasks.pipeline import compiler, submit, task_specs
from fftasks.pipeline.fuse import choose_grouping
from fftasks.project import Project, open_project
from fftasks.records import Record, write_if_changed, write_record
from tests.pipeline.test_components import make_pins
from tests.sample import Sample

CHAIN = """
from fftasks import Workflow, workflow

@workflow
def double(x):
    return 2 * x

first = double(1).set_name("first node")
second = double(first).set_name("second")
Workflow(double(second).set_name("third"), name="chain")
"""
REFERENCE = "registry.test/image@sha256:" + "0" * 64


def make_project(root, server, text: str = CHAIN, kfp: str = "") -> Sample:
    """Write a project whose settings name the server; kfp: more lines of that section."""
    sample = Sample.make(root, text)
    lines = ["workflows: [wf.py]", "kfp:", f"  host: {server.url}", kfp]
    sample.write("config/default.yaml", "\n".join(lines))
    return sample


def submit_project(sample: Sample, reference: str = REFERENCE) -> tuple[Project, Record]:
    """Submit the project's one workflow; return project and record."""
    open_project.cache_clear()
    project = open_project(sample.root)
    [name] = project.workflows
    grouping = choose_grouping(project, name)
    parts = task_specs.make_tasks_record(project.workflows[name], name, grouping)
    write_record(project.record_path("tasks", name), parts)
    pins = make_pins(parts, reference)
    options = compiler.CompileOptions(
        caching=True, version="0", settings=project.list_settings(name)
    )
    made, text = compiler.compile_pipeline(parts, pins, options)
    write_record(project.record_path("pipeline", name), made)
    write_if_changed(project.folder / "pipeline" / f"{parts['slug']}.yaml", text)
    record = submit.make_submit_record(made, text, project.settings.kfp, start_run)
    write_record(project.record_path("submit", name), record)
    return project, record
