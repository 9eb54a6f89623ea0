"""Bring results of a run on the cluster here.

KFP's interface does not say where they are, and the metadata store that does (ports/kfp_metadata.py) is
behind the page's server only. But a task's outputs lie at a place that all backends agree upon:

    <pipeline root>/<pipeline>/<run>/<task>/<output>            before release 2.15
    <pipeline root>/<pipeline>/<run>/<task>/<a word>/<output>   since then
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from fftasks.cluster.details import Task
from fftasks.cluster.evidence import (
    Evidence,
    check_uri,
    find_root,
    locate_output,
    read_cluster_run,
)
from fftasks.cluster.outcome import Outcome
from fftasks.cluster.run import (
    ClusterRun,
    Json,
    find_container,
    find_executor,
    list_outputs,
)
from fftasks.cluster.show import list_blamed, name_node_state, name_task_state, tell_error
from fftasks.cluster.verify import Verifier
from fftasks.errors import ToolError
from fftasks.ports.artifact_uri import ArtifactURI
from fftasks.ports.kfp_runs import list_runs
from fftasks.ports.object_store import ObjectStore
from fftasks.project import Project
from fftasks.record import digest_json
from fftasks.runtime.pack import read_pack
from fftasks.runtime.regular import is_folder, is_regular, move, open_new, open_regular
from fftasks.runtime.task import PACKS
from fftasks.workflow.slug import make_slug

_GIVE = frozenset({"SUCCEEDED", "CACHED"})  # the states of tasks whose outputs are kept
_EARLIER = 100
_STEP = 1 << 24


def bring_result(project: Project, run: ClusterRun, node: str, verifier: Verifier) -> Path:
    """Download and verify the result of a node, as bring_output does; return the local file.

    The result of a node that shares its container with others is extracted from their pack, which is verified
    as a whole.

    Raises:
        ToolError: The object store does not have the result, or it cannot be verified.
    """
    task = run.find_task(node)
    if task.state not in _GIVE:
        raise _refuse(project, run, task, node)
    outputs = list_outputs(run.document, task.name)
    if "result" in outputs:
        return bring_output(project, run, task, "result", verifier)
    for output in (name for name in PACKS if name in outputs):
        found = unpack(bring_output(project, run, task, output, verifier), node)
        if found is not None:
            return found
    raise ToolError(
        f"the result of {node!r} was not kept in run {run.run_id}",
        found=[f"task {task.name} gives {', '.join(outputs) or 'nothing'}"],
        tip=_tell_replay(run, node),
    )


def _refuse(project: Project, run: ClusterRun, task: Task, node: str) -> ToolError:
    """Return the error for a node whose task has not ended well, or for a task by its title."""
    evidence = Evidence(project, run)
    outcome = evidence.outcomes.get(task.name, Outcome())
    is_node, failed = node in task.nodes, outcome.failed
    state = name_node_state(run, task, node, outcome) if is_node else name_task_state(run, task)
    attempted, found = f"{node} has no result in run {run.run_id}", [f"its state is {state}"]
    if len(task.nodes) > 1 and failed == node:
        error = outcome.error or outcome.reason
        return ToolError(attempted, found=[*found, error], tip=_tell_replay(run, node))
    if len(task.nodes) > 1 and failed:
        found.append(f"of a pod that fails nothing is kept: {tell_error(task, outcome)}")
    elif task.state == "FAILED":
        found.append(tell_error(task, outcome))
        failed = node if is_node else ""
    elif state == "skipped":
        found += list_blamed(run, evidence.outcomes)
    tips = [_tell_logs(run, failed)] if failed else []
    can_run = is_node and not task.has_failed_driver
    tips += [_tell_replay(run, node)] if failed and can_run else []
    return ToolError(attempted, found=found, tip="; ".join(tips))


def _tell_logs(run: ClusterRun, node: str) -> str:
    return f"`doit logs {shlex.quote(node)} {shlex.quote(run.run_id[:8])}` shows why"


def _tell_replay(run: ClusterRun, node: str) -> str:
    return f"`doit replay {shlex.quote(node)} {shlex.quote(run.run_id[:8])}` computes it here"


def unpack(path: Path, node: str) -> Path | None:
    """Return a file with the result of one node, beside the pack that has it; None if it has not."""
    value = read_pack(path).values.get((node, "result"))
    if value is None:
        return None
    target = path.with_name(f"{path.name}-{make_slug(node)}")
    part = target.with_suffix(".part")
    with open(open_regular(path), "rb") as source, open(open_new(part), "wb") as file:  # noqa: PTH123
        source.seek(value.place.offset)
        left = value.place.length
        while left and (piece := source.read(min(left, _STEP))):
            file.write(piece)
            left -= len(piece)
    move(part, target)
    return target


def bring_output(
    project: Project, run: ClusterRun, task: Task, output: str, verifier: Verifier
) -> Path:
    """Return a local file with a verified output of a task, which may be loaded.

    A file that was downloaded before is verified again, and downloaded again if it has changed. An artifact
    that an importer registered may be anywhere in the object store, because the author of the run named it in
    the pipeline document, and the user asked for it. Pages do not show it; see bring_known.

    Args:
        project: The project.
        run: The run.
        task: The task that wrote the output.
        output: The name of the output.
        verifier: Returns the expected digest of the output.

    Raises:
        ToolError: The task has not succeeded, or its output cannot be found or verified.
    """
    if task.state not in _GIVE:
        raise _refuse(project, run, task, task.title)
    target = locate_output(project, run, task, output)
    importer = find_executor(run.document, task.name).get("importer")
    expected = verifier.expect(run, task, output, _read_uri(importer) if importer else "")
    if not expected.fits(target):
        store = ObjectStore(project.settings.object_store)
        uri = (
            ArtifactURI.parse(_read_uri(importer))
            if importer
            else find_output(project, store, run, task, output)
        )
        store.fetch(uri, target)
        expected.check(target, str(uri))
    return target


def bring_known(  # noqa: PLR0913, PLR0917 - what an output is known by, and its largest size
    project: Project, run: ClusterRun, task: Task, output: str, uri: str, most: int = 0
) -> Path:
    """Return a local file with an output that the metadata store names; callers must not unpickle it.

    The file is not verified: it may only be read as text or as data.

    Args:
        project: The project.
        run: The run.
        task: The task that has given the output.
        output: The name of the output.
        uri: Its place.
        most: Number of bytes that it may have, as one file; 0 for any output.

    Raises:
        TooLargeError: The output is larger.
        ToolError: The output is outside of the run's pipeline root, or the output cannot be downloaded.
    """
    target, place = locate_output(project, run, task, output), check_uri(project, run, uri)
    if not is_regular(target) and not is_folder(target):
        ObjectStore(project.settings.object_store).fetch(place, target, most)
    return target


def _read_uri(importer: Json) -> str:
    uri = importer.get("artifactUri", {})
    return str(uri.get("constant") or uri.get("runtimeValue", {}).get("constant") or "")


def find_output(
    project: Project, store: ObjectStore, run: ClusterRun, task: Task, output: str
) -> ArtifactURI:
    """Return the place of an output; for a cached task, its place in the run that computed it.

    Raises ToolError if it is in none of the places that were looked at.
    """
    looked = []
    for source in _list_sources(project, run, task):
        root = find_root(project, source)
        folder = root.join(source.pipeline_name, source.run_id, task.name)
        looked.append(f"nothing at {folder}")
        for place in (*reversed(store.list_folders(folder)), folder):
            found = place.join(output)
            if store.has(found):
                return found
    raise ToolError(
        f"cannot find the {output} of {task.title} in run {run.run_id}",
        found=looked,
        tip=_tell_where_to_look(project),
    )


def _tell_where_to_look(project: Project) -> str:
    own = "kfp.pipeline_root: where the cluster keeps results, if it is not KFP's own place"
    mount = project.settings.object_store.mount
    return f"object_store.mount: {mount} must hold the buckets; {own}" if mount else own


def _list_sources(project: Project, run: ClusterRun, task: Task) -> Iterator[ClusterRun]:
    """Yield the run itself, or those earlier ones that may have computed what is cached."""
    if task.state != "CACHED":
        yield run
        return
    wanted = _digest_tasks(run)[task.name]
    for answer in list_runs(project.settings.kfp, _EARLIER):
        other = ClusterRun(answer)
        is_other = other.document and other.pipeline_name != run.pipeline_name
        if is_other or other.run_id == run.run_id:
            continue
        other = read_cluster_run(project.settings.kfp, other.run_id)  # a list may be without tasks
        there = next((one for one in other.tasks if one.name == task.name), None)
        is_source = there is not None and there.state == "SUCCEEDED"
        if is_source and _digest_tasks(other)[task.name] & wanted:
            yield other


def _digest_tasks(run: ClusterRun) -> dict[str, set[str]]:
    """Return, by task, what its result is known by: the digest of all that makes it, and its cache key."""
    digests: dict[str, str] = {}
    for task in run.tasks:  # upstream first
        step = run.document["root"]["dag"]["tasks"][task.name]
        upstream = {
            name: [digests[source["producerTask"]], source["outputArtifactKey"]]
            for name, source in list_inputs(run, task.name).items()
        }
        container = find_container(run.document, task.name)
        parts = [container, read_parameters(run, task.name), upstream, step["componentRef"]]
        digests[task.name] = digest_json(parts)
    keys = {
        name: step.get("cachingOptions", {}).get("cacheKey")
        for name, step in run.document["root"]["dag"]["tasks"].items()
    }
    return {
        name: {digest, *([f"key {keys[name]}"] if keys[name] else [])}
        for name, digest in digests.items()
    }


def list_inputs(run: ClusterRun, task: str) -> dict[str, Json]:
    """Return a task's inputs: name -> {"producerTask", "outputArtifactKey"}."""
    step = run.document["root"]["dag"]["tasks"][task]
    artifacts = step.get("inputs", {}).get("artifacts", {})
    return {
        name: source["taskOutputArtifact"]
        for name, source in sorted(artifacts.items())
        if "taskOutputArtifact" in source
    }


def read_parameters(run: ClusterRun, task: str) -> Json:
    """Return the parameters of a task as the run has them: constants, and what the run was given."""
    step = run.document["root"]["dag"]["tasks"][task]
    given = (run.answer.get("runtime_config") or {}).get("parameters") or {}
    definitions = run.document["root"].get("inputDefinitions", {}).get("parameters", {})
    values = {}
    for name, source in step.get("inputs", {}).get("parameters", {}).items():
        if "componentInputParameter" in source:
            key = source["componentInputParameter"]
            values[name] = given.get(key, definitions.get(key, {}).get("defaultValue"))
        else:
            values[name] = source.get("runtimeValue", {}).get("constant")
    return values
