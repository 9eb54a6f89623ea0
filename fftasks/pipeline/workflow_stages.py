"""The steps of one workflow: tasks, pins, pipeline and submit."""

from __future__ import annotations

from collections.abc import Collection

from fftasks.errors import StoreError
from fftasks.image.builders import find_missing_images
from fftasks.image.push import plan_push
from fftasks.kfp.limits import get_cluster_limits
from fftasks.kfp.run import format_run_description
from fftasks.pipeline import pins, submit
from fftasks.pipeline import task_specs as kfp_tasks
from fftasks.pipeline.compiler import (
    VERSION,
    CompileOptions,
    compile_pipeline,
    list_pipeline_inputs,
)
from fftasks.pipeline.components import describe_workflow, digest_there
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
    """Return the step of the tasks: which nodes share one, and what each is told."""

    def build(old: Record | None) -> Record:
        grouping = choose_grouping(project, name, old)
        record = kfp_tasks.make_tasks_record(
            graph, name, grouping, preview=project.settings.kfp.preview
        )
        return {**record, "grouping": describe_grouping(grouping)}

    def list_reasons(old: Record | None) -> list[str]:
        if old is not None and old.get("graph") == _digest_graph(project, graph, name):
            return []
        record = build(old)
        changed = list_input_changes(old, kfp_tasks.VERSION, record["inputs"])
        return [*_compare_modes(old, record), *changed] if changed else []

    def make() -> Record:
        check_secrets(project)
        record = build(read_record(project.record_path("tasks", name)))
        return {**record, "graph": _digest_graph(project, graph, name)}

    return Stage(
        path=project.record_path("tasks", name),
        needs=project.list_needs("tasks", name),
        list_reasons=list_reasons,
        make=make,
        describe=describe_tasks,
    )


def plan_pins(project: Project, name: str, gone: Collection[str] = ()) -> Stage:
    """Return the step of the pins. gone: references that no task may be pinned to."""
    path, needs = project.record_path("pins", name), project.list_needs("pins", name)

    def find_wish() -> pins.PinRequest:
        return make_pin_request(project, name, *map(require_record, needs))

    return Stage(
        path=path,
        needs=needs,
        list_reasons=lambda old: list(pins.list_pin_reasons(old, find_wish())),
        make=lambda: choose_pins(project, find_wish(), read_record(path), gone),
        describe=pins.describe_pins,
    )


def plan_pipeline(project: Project, graph: Record, name: str) -> Stage:
    """Return the step of the pipeline, as one file."""
    slug = graph["workflows"][name]["slug"]
    path, needs = project.record_path("pipeline", name), project.list_needs("pipeline", name)
    text_path = project.folder / "pipeline" / f"{slug}.yaml"

    def choose_options() -> CompileOptions:
        from fftasks import __version__

        caching = project.settings.kfp.caching
        settings = project.list_settings(name)
        return CompileOptions(
            caching=caching,
            version=__version__,
            settings=settings,
            cluster=get_cluster_limits(project.settings.kfp.version),
            description=describe_workflow(project, graph),
        )

    def make() -> Record:
        parts, pinned = map(require_record, needs)
        options = choose_options()
        groups = list_member_fingerprints(project, name, parts, pinned)
        known = (read_record(path) or {}).get("kept", {})
        if options.caching:
            known = find_reuse(project, name, parts, groups, known)
        kept = {key: ReusedPacks(**one) for key, one in known.items() if one and options.caching}
        record, text = compile_pipeline(parts, pinned, options, kept)
        check_outgoing(project, f"the pipeline of workflow {hide_tokens(name)!r}", text)
        write_if_changed(text_path, text)
        return {**record, "groups": groups, "kept": known}

    def list_reasons(old: Record | None) -> list[str]:
        parts, pinned = map(require_record, needs)
        inputs = list_pipeline_inputs(parts, pinned, choose_options())
        reasons = list_input_changes(old, VERSION, inputs)
        is_there = old is not None and digest_there(text_path) == old.get("file")
        return reasons if reasons or is_there else [f"{text_path.name} was changed or removed"]

    return Stage(
        path=path,
        needs=needs,
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: f"{display_path(project, text_path)} {record['output'][:19]}",
    )


def plan_submit(project: Project, graph: Record, name: str, *, again: bool) -> Stage:
    """Return the step of the run. again: start a new one, also of the same pipeline."""
    slug = graph["workflows"][name]["slug"]
    needed = project.record_path("pipeline", name)
    settings = project.settings.kfp

    def list_reasons(old: Record | None) -> list[str]:
        if again:
            return ["a new run is asked for"]
        inputs = submit.list_submit_inputs(
            require_record(needed), settings, project.list_values(name)
        )
        reasons = list_input_changes(old, submit.VERSION, inputs, submit.name_submit_inputs)
        if reasons or old is None:
            return reasons
        from fftasks.kfp.client import read_run_state

        state = read_run_state(settings, old["run_id"])
        return [f"its run is {state}"] if submit.is_lost(state) else []

    def make() -> Record:
        from fftasks.kfp.client import start_run
        from fftasks.pipeline.cache_prediction import record_submitted_workflow

        ensure_images(project, name)
        text = read_pipeline(project, slug)
        last = read_record(project.record_path("submit", name))
        made, values = require_record(needed), project.list_values(name)
        inputs = submit.list_submit_inputs(made, settings, values)
        check_outgoing(project, "the run", text, inputs, format_run_description(made, settings))
        record = submit.make_submit_record(made, text, settings, start_run, values)
        record_submitted_workflow(project, name, last)
        return {**record, "groups": made.get("groups", {})}  # an older pipeline tells of none

    return Stage(
        path=project.record_path("submit", name),
        needs=project.list_needs("submit", name),
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: f"run {record['run_id']}: {record['url']}",
    )


def read_pipeline(project: Project, slug: str) -> str:
    """Return the compiled pipeline of a workflow.

    Raises:
        StoreError: There is no regular file.
    """
    try:
        return read_text(project.folder / "pipeline" / f"{slug}.yaml")
    except FileNotFoundError as error:
        raise StoreError(f"the pipeline of {slug!r} is gone", tip="run `doit pipeline`") from error


def ensure_images(project: Project, name: str) -> None:
    """See to it that all images that a run of a workflow would need are in the registry.

    The newest is pushed again if it has gone from there. Tasks whose older image has gone run the newest,
    and the pipeline is compiled again.
    """
    gone = find_missing_images(project, list_references(project, name))
    if not gone:
        return
    pushed = project.record_path("push")
    if find_missing_images(project, [require_record(pushed)["reference"]]):
        execute_stage(plan_push(project))
    execute_stage(plan_pins(project, name, gone - {require_record(pushed)["reference"]}))
    step = plan_pipeline(project, project.workflows[name], name)
    if not is_up_to_date(step):
        execute_stage(step)


def list_references(project: Project, name: str) -> set[str]:
    """Return the images that a run of a workflow would need."""
    record = read_record(project.record_path("pins", name))
    return {task["reference"] for task in record["tasks"].values()} if record else set()


def _digest_graph(project: Project, graph: Record, name: str) -> str:
    """Return the digest of what tasks are made of: of a graph all but its code."""
    seen = ("name", "slug", "kind", "line", "function", "inputs", "upstream", "arguments")
    workflow = graph["workflows"][name]
    nodes = {
        node: {key: graph["nodes"][node][key] for key in (*seen, "parameters", "shows")}
        for node in workflow["nodes"]
    }
    choice = project.settings.kfp.preview, digest_group_settings(project, name)
    return digest_json([nodes, workflow["parameters"], graph["file"], choice])


def _compare_modes(old: Record | None, record: Record) -> list[str]:
    """Return how nodes are grouped now, if it was otherwise before: it says more than all that came of it."""
    modes = [((one or {}).get("grouping") or {}).get("mode", "none") for one in (old, record)]
    is_other = old is not None and modes[0] != modes[1]
    return [f"groups of nodes: {modes[0]} -> {modes[1]}"] if is_other else []
