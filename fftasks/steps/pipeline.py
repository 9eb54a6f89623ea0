"""The steps of one workflow: tasks, pins, pipeline and submit."""

from __future__ import annotations

from collections.abc import Collection

from fftasks.errors import StoreError
from fftasks.project import Project
from fftasks.record import Record, digest_json, read_record, write_text
from fftasks.runtime.regular import read_text
from fftasks.stages import kfp_tasks, pins, pipeline, submit
from fftasks.stages.kept import Kept
from fftasks.stages.limits import choose_cluster
from fftasks.stages.secret import hide_tokens
from fftasks.steps.components import describe_workflow, digest_there
from fftasks.steps.connect import find_gone
from fftasks.steps.grouping import describe_grouping, describe_tasks, find_grouping, name_choice
from fftasks.steps.image import plan_push
from fftasks.steps.keeping import find_kept, name_members
from fftasks.steps.outgoing import check_outgoing, check_secrets
from fftasks.steps.pinning import choose, make_wish
from fftasks.steps.step import Step, compare, is_current, need, run_step, shorten


def plan_tasks(project: Project, graph: Record, name: str) -> Step:
    """Return the step of the tasks: which nodes share one, and what each is told."""

    def build(old: Record | None) -> Record:
        grouping = find_grouping(project, name, old)
        record = kfp_tasks.make(graph, name, grouping, preview=project.settings.kfp.preview)
        return {**record, "grouping": describe_grouping(grouping)}

    def list_reasons(old: Record | None) -> list[str]:
        if old is not None and old.get("graph") == _name_graph(project, graph, name):
            return []
        record = build(old)
        changed = compare(old, kfp_tasks.VERSION, record["inputs"])
        return [*_compare_modes(old, record), *changed] if changed else []

    def make() -> Record:
        check_secrets(project)
        record = build(read_record(project.record_path("tasks", name)))
        return {**record, "graph": _name_graph(project, graph, name)}

    return Step(
        path=project.record_path("tasks", name),
        needs=project.list_needs("tasks", name),
        list_reasons=list_reasons,
        make=make,
        describe=describe_tasks,
    )


def plan_pins(project: Project, name: str, gone: Collection[str] = ()) -> Step:
    """Return the step of the pins. gone: references that no task may be pinned to."""
    path, needs = project.record_path("pins", name), project.list_needs("pins", name)

    def find_wish() -> pins.Wish:
        return make_wish(project, name, *map(need, needs))

    return Step(
        path=path,
        needs=needs,
        list_reasons=lambda old: list(pins.list_reasons(old, find_wish())),
        make=lambda: choose(project, find_wish(), read_record(path), gone),
        describe=pins.describe,
    )


def plan_pipeline(project: Project, graph: Record, name: str) -> Step:
    """Return the step of the pipeline, as one file."""
    slug = graph["workflows"][name]["slug"]
    path, needs = project.record_path("pipeline", name), project.list_needs("pipeline", name)
    text_path = project.folder / "pipeline" / f"{slug}.yaml"

    def choose_options() -> pipeline.Options:
        from fftasks import __version__

        caching = project.settings.kfp.caching
        settings = project.list_settings(name)
        return pipeline.Options(
            caching=caching,
            version=__version__,
            settings=settings,
            cluster=choose_cluster(project.settings.kfp.version),
            description=describe_workflow(project, graph),
        )

    def make() -> Record:
        parts, pinned = map(need, needs)
        options = choose_options()
        groups = name_members(project, name, parts, pinned)
        known = (read_record(path) or {}).get("kept", {})
        if options.caching:
            known = find_kept(project, name, parts, groups, known)
        kept = {key: Kept(**one) for key, one in known.items() if one and options.caching}
        record, text = pipeline.make(parts, pinned, options, kept)
        check_outgoing(project, f"the pipeline of workflow {hide_tokens(name)!r}", text)
        write_text(text_path, text)
        return {**record, "groups": groups, "kept": known}

    def list_reasons(old: Record | None) -> list[str]:
        parts, pinned = map(need, needs)
        inputs = pipeline.list_inputs(parts, pinned, choose_options())
        reasons = compare(old, pipeline.VERSION, inputs)
        is_there = old is not None and digest_there(text_path) == old.get("file")
        return reasons if reasons or is_there else [f"{text_path.name} was changed or removed"]

    return Step(
        path=path,
        needs=needs,
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: f"{shorten(project, text_path)} {record['output'][:19]}",
    )


def plan_submit(project: Project, graph: Record, name: str, *, again: bool) -> Step:
    """Return the step of the run. again: start a new one, also of the same pipeline."""
    slug = graph["workflows"][name]["slug"]
    needed = project.record_path("pipeline", name)
    settings = project.settings.kfp

    def list_reasons(old: Record | None) -> list[str]:
        if again:
            return ["a new run is asked for"]
        inputs = submit.list_inputs(need(needed), settings, project.list_values(name))
        reasons = compare(old, submit.VERSION, inputs, submit.spell_inputs)
        if reasons or old is None:
            return reasons
        from fftasks.ports.kfp import read_state

        state = read_state(settings, old["run_id"])
        return [f"its run is {state}"] if submit.is_lost(state) else []

    def make() -> Record:
        from fftasks.cluster.forecast import remember
        from fftasks.ports.kfp import start_run

        keep_images(project, name)
        text = read_pipeline(project, slug)
        last = read_record(project.record_path("submit", name))
        made, values = need(needed), project.list_values(name)
        inputs = submit.list_inputs(made, settings, values)
        check_outgoing(project, "the run", text, inputs, submit.describe(made, settings))
        record = submit.make(made, text, settings, start_run, values)
        remember(project, name, last)
        return {**record, "groups": made.get("groups", {})}  # an older pipeline tells of none

    return Step(
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


def keep_images(project: Project, name: str) -> None:
    """See to it that all images that a run of a workflow would need are in the registry.

    The newest is pushed again if it has gone from there. Tasks whose older image has gone run the newest,
    and the pipeline is compiled again.
    """
    gone = find_gone(project, list_references(project, name))
    if not gone:
        return
    pushed = project.record_path("push")
    if find_gone(project, [need(pushed)["reference"]]):
        run_step(plan_push(project))
    run_step(plan_pins(project, name, gone - {need(pushed)["reference"]}))
    step = plan_pipeline(project, project.workflows[name], name)
    if not is_current(step):
        run_step(step)


def list_references(project: Project, name: str) -> set[str]:
    """Return the images that a run of a workflow would need."""
    record = read_record(project.record_path("pins", name))
    return {task["reference"] for task in record["tasks"].values()} if record else set()


def _name_graph(project: Project, graph: Record, name: str) -> str:
    """Return the digest of what tasks are made of: of a graph all but its code."""
    seen = ("name", "slug", "kind", "line", "function", "inputs", "upstream", "arguments")
    workflow = graph["workflows"][name]
    nodes = {
        node: {key: graph["nodes"][node][key] for key in (*seen, "parameters", "shows")}
        for node in workflow["nodes"]
    }
    choice = project.settings.kfp.preview, name_choice(project, name)
    return digest_json([nodes, workflow["parameters"], graph["file"], choice])


def _compare_modes(old: Record | None, record: Record) -> list[str]:
    """Return how nodes are grouped now, if it was otherwise before: it says more than all that came of it."""
    modes = [((one or {}).get("grouping") or {}).get("mode", "none") for one in (old, record)]
    is_other = old is not None and modes[0] != modes[1]
    return [f"groups of nodes: {modes[0]} -> {modes[1]}"] if is_other else []
