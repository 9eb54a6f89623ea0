"""The stages of one workflow: tasks, pins, pipeline and submit.

The functions plan_... return the stages for the table in stages.py. Stage components is in components.py.
"""

from __future__ import annotations

from collections.abc import Collection

from fftasks.errors import StoreError
from fftasks.image.builders import find_missing_images
from fftasks.image.push import plan_push
from fftasks.kfp.limits import get_cluster_limits
from fftasks.kfp.run import format_run_description
from fftasks.pipeline import pins, submit, task_specs
from fftasks.pipeline.compiler import (
    VERSION,
    CompileOptions,
    compile_pipeline,
    list_pipeline_inputs,
)
from fftasks.pipeline.components import describe_workflow, digest_if_exists
from fftasks.pipeline.fuse import (
    choose_grouping,
    describe_grouping,
    describe_tasks,
    digest_group_settings,
)
from fftasks.pipeline.pins import choose_pins, make_pin_request
from fftasks.pipeline.reuse import ReusedPacks, find_reuse, list_member_fingerprints
from fftasks.pipeline.secret_check import check_outgoing, check_secrets
from fftasks.project import Project
from fftasks.records import Record, digest_json, read_record, write_if_changed
from fftasks.secrets.scanner import hide_tokens
from fftasks.stage import (
    Stage,
    display_path,
    execute_stage,
    is_up_to_date,
    list_input_changes,
    require_record,
)
from fftasks.state_folder import read_text


def plan_tasks(project: Project, graph: Record, name: str) -> Stage:
    """Return stage tasks of a workflow: graph record -> KFP tasks, each with one or several nodes.

    Args:
        project: The current project.
        graph: Graph record of the file that builds the workflow.
        name: Name of the workflow.
    """

    def make_tasks_record(old: Record | None) -> Record:
        grouping = choose_grouping(project, name, old)
        record = task_specs.make_tasks_record(
            graph, name, grouping, preview=project.settings.kfp.preview
        )
        return {**record, "grouping": describe_grouping(grouping)}

    def list_reasons(old: Record | None) -> list[str]:
        # Comparing digests of the graph saves making the tasks, which takes long for a large workflow.
        if old is not None and old.get("graph") == _digest_graph(project, graph, name):
            return []
        record = make_tasks_record(old)
        changed = list_input_changes(old, task_specs.VERSION, record["inputs"])
        if not changed or old is None:
            return changed
        before, now = (((r.get("grouping") or {}).get("mode", "none")) for r in (old, record))
        # Another grouping changes most tasks, so that it is a better reason than each of them.
        return [*([f"groups of nodes: {before} -> {now}"] if before != now else []), *changed]

    def execute() -> Record:
        check_secrets(project)
        record = make_tasks_record(read_record(project.record_path("tasks", name)))
        return {**record, "graph": _digest_graph(project, graph, name)}

    return Stage(
        path=project.record_path("tasks", name),
        needs=project.list_needs("tasks", name),
        list_reasons=list_reasons,
        make=execute,
        describe=describe_tasks,
    )


def plan_pins(project: Project, name: str, missing: Collection[str] = ()) -> Stage:
    """Return stage pins of a workflow: records of tasks and push -> image of each task.

    Args:
        project: The current project.
        name: Name of the workflow.
        missing: References of images that the registry does not have any more; no task is pinned to them.
    """
    path, needs = project.record_path("pins", name), project.list_needs("pins", name)

    def make_request() -> pins.PinRequest:
        return make_pin_request(project, name, *map(require_record, needs))

    return Stage(
        path=path,
        needs=needs,
        list_reasons=lambda old: list(pins.list_pin_reasons(old, make_request())),
        make=lambda: choose_pins(project, make_request(), read_record(path), missing),
        describe=pins.describe_pins,
    )


def plan_pipeline(project: Project, graph: Record, name: str) -> Stage:
    """Return stage pipeline of a workflow: records of tasks and pins -> one YAML file.

    Args:
        project: The current project.
        graph: Graph record of the file that builds the workflow.
        name: Name of the workflow.
    """
    slug = graph["workflows"][name]["slug"]
    path, needs = project.record_path("pipeline", name), project.list_needs("pipeline", name)
    yaml_path = project.folder / "pipeline" / f"{slug}.yaml"

    def choose_options() -> CompileOptions:
        from fftasks import __version__

        return CompileOptions(
            caching=project.settings.kfp.caching,
            version=__version__,
            settings=project.list_settings(name),
            cluster=get_cluster_limits(project.settings.kfp.version),
            description=describe_workflow(project, graph),
        )

    def execute() -> Record:
        tasks, pinned = map(require_record, needs)
        options = choose_options()
        groups = list_member_fingerprints(project, name, tasks, pinned)
        known = (read_record(path) or {}).get("kept", {})
        if options.caching:
            known = find_reuse(project, name, tasks, groups, known)
        reused = {key: ReusedPacks(**one) for key, one in known.items() if one and options.caching}
        record, text = compile_pipeline(tasks, pinned, options, reused)
        check_outgoing(project, f"the pipeline of workflow {hide_tokens(name)!r}", text)
        write_if_changed(yaml_path, text)
        return {**record, "groups": groups, "kept": known}

    def list_reasons(old: Record | None) -> list[str]:
        tasks, pinned = map(require_record, needs)
        inputs = list_pipeline_inputs(tasks, pinned, choose_options())
        reasons = list_input_changes(old, VERSION, inputs)
        if reasons or (old is not None and digest_if_exists(yaml_path) == old.get("file")):
            return reasons
        return [f"{yaml_path.name} was changed or removed"]

    return Stage(
        path=path,
        needs=needs,
        list_reasons=list_reasons,
        make=execute,
        describe=lambda record: f"{display_path(project, yaml_path)} {record['output'][:19]}",
    )


def plan_submit(project: Project, graph: Record, name: str, *, again: bool) -> Stage:
    """Return stage submit of a workflow: compiled pipeline -> run on Kubeflow Pipelines.

    Args:
        project: The current project.
        graph: Graph record of the file that builds the workflow.
        name: Name of the workflow.
        again: Whether another run is started although there is a run of the same pipeline.
    """
    slug = graph["workflows"][name]["slug"]
    pipeline_path = project.record_path("pipeline", name)
    settings = project.settings.kfp

    def list_reasons(old: Record | None) -> list[str]:
        if again:
            return ["a new run is asked for"]
        inputs = submit.list_submit_inputs(
            require_record(pipeline_path), settings, project.list_values(name)
        )
        reasons = list_input_changes(old, submit.VERSION, inputs, submit.name_submit_inputs)
        if reasons or old is None:
            return reasons
        from fftasks.kfp.client import read_run_state

        state = read_run_state(settings, old["run_id"])
        return [f"its run is {state}"] if submit.is_lost(state) else []

    def execute() -> Record:
        from fftasks.kfp.client import start_run
        from fftasks.pipeline.cache_prediction import record_submitted_workflow

        ensure_images(project, name)
        text = read_pipeline(project, slug)
        last = read_record(project.record_path("submit", name))
        pipeline, values = require_record(pipeline_path), project.list_values(name)
        inputs = submit.list_submit_inputs(pipeline, settings, values)
        check_outgoing(project, "the run", text, inputs, format_run_description(pipeline, settings))
        record = submit.make_submit_record(pipeline, text, settings, start_run, values)
        record_submitted_workflow(project, name, last)
        # Records of older versions of stage pipeline have no groups.
        return {**record, "groups": pipeline.get("groups", {})}

    return Stage(
        path=project.record_path("submit", name),
        needs=project.list_needs("submit", name),
        list_reasons=list_reasons,
        make=execute,
        describe=lambda record: f"run {record['run_id']}: {record['url']}",
    )


def read_pipeline(project: Project, slug: str) -> str:
    """Return the YAML of a compiled pipeline.

    Args:
        project: The current project.
        slug: Slug of the workflow.

    Raises:
        StoreError: The file is missing, or is not a regular file.
    """
    try:
        return read_text(project.folder / "pipeline" / f"{slug}.yaml")
    except FileNotFoundError as error:
        raise StoreError(f"the pipeline of {slug!r} is gone", tip="run `doit pipeline`") from error


def ensure_images(project: Project, name: str) -> None:
    """Ensure that the registry has all images that a run of a workflow needs.

    The newest image is pushed again if the registry does not have it any more. Tasks whose older image is
    missing are pinned to the newest one, and the pipeline is compiled again.

    Args:
        project: The current project.
        name: Name of the workflow.
    """
    missing = find_missing_images(project, list_references(project, name))
    if not missing:
        return
    push_path = project.record_path("push")
    if find_missing_images(project, [require_record(push_path)["reference"]]):
        execute_stage(plan_push(project))
    execute_stage(plan_pins(project, name, missing - {require_record(push_path)["reference"]}))
    pipeline = plan_pipeline(project, project.workflows[name], name)
    if not is_up_to_date(pipeline):
        execute_stage(pipeline)


def list_references(project: Project, name: str) -> set[str]:
    """Return the references of the images that a run of a workflow needs."""
    record = read_record(project.record_path("pins", name))
    return {task["reference"] for task in record["tasks"].values()} if record else set()


def _digest_graph(project: Project, graph: Record, name: str) -> str:
    """Return the digest of everything that determines the tasks: the graph without its code, and settings."""
    keys = ("name", "slug", "kind", "line", "function", "inputs", "upstream", "arguments")
    workflow = graph["workflows"][name]
    nodes = {
        node: {key: graph["nodes"][node][key] for key in (*keys, "parameters", "shows")}
        for node in workflow["nodes"]
    }
    choice = project.settings.kfp.preview, digest_group_settings(project, name)
    return digest_json([nodes, workflow["parameters"], graph["file"], choice])
