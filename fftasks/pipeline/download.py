"""Download results of runs on the cluster, and verify them before they are unpickled on this machine.

Unpickling a file can execute code, and not everyone with write access to the bucket is allowed to execute
code on the user's machine. So the pod that writes an output records its digest in the metadata of the
artifact (runner/executor_input.py), and `doit result` and `doit replay` compare a file with that digest each
time before they load it. The metadata store is reached through KFP and is not part of the bucket.

KFP's API does not return the URIs of outputs, and the metadata store, which has them, can be reached through
the server of the web UI only. But all backends store the outputs of a task at this place:

    <pipeline root>/<pipeline>/<run>/<task>/<output>            before release 2.15
    <pipeline root>/<pipeline>/<run>/<task>/<a word>/<output>   since then
"""

from __future__ import annotations

import re
import shlex
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fftasks.api.names import make_slug
from fftasks.errors import FFTasksError, ToolError
from fftasks.kfp.client import fetch_runs
from fftasks.kfp.diagnostics import (
    RunDiagnostics,
    find_pipeline_root,
    locate_download,
    read_cluster_run,
    resolve_artifact_uri,
)
from fftasks.kfp.node_status import (
    format_task_error,
    get_node_state,
    get_task_state,
    list_task_errors,
)
from fftasks.kfp.object_store import ArtifactURI, ObjectStore
from fftasks.kfp.pod_log import TaskFailure
from fftasks.kfp.run import ClusterRun, find_container, find_executor, list_artifact_names
from fftasks.kfp.task_details import ClusterTask, Executions, Json
from fftasks.project import Project
from fftasks.records import digest_json
from fftasks.runner.artifact import digest_artifact, read_pack
from fftasks.runner.executor_input import DIGEST_KEY
from fftasks.runner.task import OUTPUT_PACKS
from fftasks.state_folder import is_folder, is_regular, move, open_new, open_regular, remove

_DIGEST = re.compile(r"sha256:[0-9a-f]{32}(?:[0-9a-f]{32})?")
_RUN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_WAY = "kfp.host is not the address of the web UI, so the metadata store cannot be reached"
_NO_DIGEST = (
    "the run recorded no digest of it: an older version of fftasks or another component wrote it, or it is an"
    " input of a task with more than 200 inputs, which has no room for digests"
)
_TRUST = "`--trust` loads it unverified: anyone with write access to the bucket can then execute code as you"
_STATES_WITH_OUTPUTS = frozenset({"SUCCEEDED", "CACHED"})
_EARLIER = 100  # earlier runs that are searched for the source of a cached result
_STEP = 1 << 24  # bytes that are copied at a time


@dataclass(frozen=True)
class ExpectedDigest:
    """The expected digest of a downloaded file.

    Attributes:
        what: Description of the output, for messages.
        digest: Beginning of the digest that the run recorded; "" if there is none and the user trusts it.
        trust: Whether a file with another digest is loaded as well.
    """

    what: str
    digest: str
    trust: bool

    def fits(self, path: Path) -> bool:
        """Return whether an existing file or folder may be loaded; remove it otherwise.

        A file of an earlier download is verified again: it may have been edited, or downloaded with --trust.

        Args:
            path: File or folder, which need not exist.
        """
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return False
        is_file = stat.S_ISREG(mode)
        if self._has_digest(path) if self.digest else is_file or stat.S_ISDIR(mode):
            return True
        remove(path)
        return False

    def check(self, path: Path, uri: str) -> None:
        """Check a download; remove the file if it must not be loaded.

        Args:
            path: The downloaded file.
            uri: Where it was downloaded from.

        Raises:
            ToolError: The file has another digest, and the user did not pass --trust.
        """
        if not self.digest or self._has_digest(path):
            return
        found = digest_artifact(path) if path.is_file() else "a folder"
        if self.trust:
            sys.stderr.write(f"{self.what} was changed after the run: the file has {found}\n")
            return
        remove(path)
        raise ToolError(
            f"{self.what} was changed after the run: it is not loaded",
            found=[
                f"the run recorded {self.digest}",
                f"the file at {uri} has {found}",
                "loading it could execute code that someone put into it; the download was removed",
            ],
            tip="find out who can write to the bucket; to compute the result again, set cache: false for the"
            " node and run `doit submit`",
        )

    def _has_digest(self, path: Path) -> bool:
        is_file = stat.S_ISREG(path.lstat().st_mode)
        return is_file and digest_artifact(path).startswith(self.digest)


class Verifier:
    """Reads the digests that runs recorded, with one request per run to the metadata store.

    Args:
        project: The project, whose settings contain the address of the metadata store.
        trust: Whether files without a recorded digest, or with another one, are loaded as well.
    """

    def __init__(self, project: Project, *, trust: bool = False) -> None:
        self._project, self._trust = project, trust
        self._executions: dict[str, Executions | None] = {}

    def expect(
        self, run: ClusterRun, task: ClusterTask, output: str, uri: str = ""
    ) -> ExpectedDigest:
        """Return the expected digest of an output.

        Args:
            run: Run that contains the task.
            task: Task that has succeeded or was cached.
            output: Name of the output.
            uri: URI that an importer has registered, whose artifact another run wrote; "" for other tasks.

        Raises:
            ToolError: The run recorded no digest, and the user did not pass --trust.
        """
        what = f"the {output} of {task.title} in run {run.run_id[:8]}"
        try:
            digest = self._find_digest(run, task, output, uri)
            problem = "" if digest else _NO_DIGEST
        except FFTasksError as error:
            digest, problem = "", ": ".join([error.attempted, *error.found[:1]])
        if problem and not self._trust:
            attempted = f"cannot verify {what}: it is not loaded"
            raise ToolError(attempted, found=[problem], tip=_TRUST)
        return ExpectedDigest(what, digest, self._trust)

    def _find_digest(self, run: ClusterRun, task: ClusterTask, output: str, uri: str) -> str:
        """Return the digest that a run recorded for an output, "" if there is none; see expect()."""
        if uri:
            # The URI of an artifact contains the id of the run that wrote it.
            artifacts = [
                artifact
                for run_id in dict.fromkeys(_RUN_ID.findall(uri))
                for execution in self._read_executions(run_id).values()
                for artifact in execution.outputs.values()
                if artifact.uri.partition("?")[0] == uri.partition("?")[0]
            ]
        else:
            execution = self._read_executions(run.run_id).get(task.name)
            artifact = execution.outputs.get(output) if execution else None
            artifacts = [artifact] if artifact else []
        digests = [str(artifact.properties.get(DIGEST_KEY, "")) for artifact in artifacts]
        return next((digest for digest in digests if _DIGEST.fullmatch(digest)), "")

    def _read_executions(self, run_id: str) -> Executions:
        """Return the executions of a run in the metadata store, which is read once per run."""
        from fftasks.kfp.metadata import read_executions

        if run_id not in self._executions:
            self._executions[run_id] = read_executions(self._project.settings.kfp, run_id)
        found = self._executions[run_id]
        if found is None:
            raise ToolError(_NO_WAY)
        return found


def download_result(project: Project, run: ClusterRun, node: str, verifier: Verifier) -> Path:
    """Download and verify the result of a node, as download_output does; return the local file.

    The result of a node that shares its pod with others is extracted from their pack, which is verified as a
    whole.

    Args:
        project: The project.
        run: The run.
        node: Name of the node.
        verifier: Returns the expected digest of the result.

    Raises:
        ToolError: The object store does not have the result, or it cannot be verified.
    """
    task = run.find_task(node)
    if task.state not in _STATES_WITH_OUTPUTS:
        raise _explain_missing_result(project, run, task, node)
    outputs = list_artifact_names(run.document, task.name)
    if "result" in outputs:
        return download_output(project, run, task, "result", verifier)
    for output in (name for name in OUTPUT_PACKS if name in outputs):
        found = extract_result(download_output(project, run, task, output, verifier), node)
        if found is not None:
            return found
    raise ToolError(
        f"the result of {node!r} was not stored in run {run.run_id}",
        found=[f"task {task.name} gives {', '.join(outputs) or 'nothing'}"],
        tip=_suggest_replay(run, node),
    )


def _explain_missing_result(
    project: Project, run: ClusterRun, task: ClusterTask, node: str
) -> ToolError:
    """Return the error for an output of a task that did not succeed.

    Args:
        project: The project.
        run: The run.
        task: The task.
        node: Name of the node whose result is missing, or title of the task.
    """
    diagnostics = RunDiagnostics(project.settings, project.folder, run)
    failure = diagnostics.outcomes.get(task.name, TaskFailure())
    is_node, failed = node in task.nodes, failure.failed
    state = get_node_state(run, task, node, failure) if is_node else get_task_state(run, task)
    attempted, found = f"{node} has no result in run {run.run_id}", [f"its state is {state}"]
    if len(task.nodes) > 1 and failed == node:
        error = failure.error or failure.reason
        return ToolError(attempted, found=[*found, error], tip=_suggest_replay(run, node))
    if len(task.nodes) > 1 and failed:
        found.append(f"a failed pod keeps no results: {format_task_error(task, failure)}")
    elif task.state == "FAILED":
        found.append(format_task_error(task, failure))
        failed = node if is_node else ""
    elif state == "skipped":
        found += list_task_errors(run, diagnostics.outcomes)
    tips = []
    if failed:
        tips.append(f"`doit logs {shlex.quote(failed)} {shlex.quote(run.run_id[:8])}` shows why")
        if is_node and not task.has_failed_driver:
            tips.append(_suggest_replay(run, node))
    return ToolError(attempted, found=found, tip="; ".join(tips))


def _suggest_replay(run: ClusterRun, node: str) -> str:
    return f"`doit replay {shlex.quote(node)} {shlex.quote(run.run_id[:8])}` computes it here"


def extract_result(path: Path, node: str) -> Path | None:
    """Extract the result of one node from a pack to a file beside it.

    Args:
        path: File with the pack.
        node: Name of the node.

    Returns:
        The file with the result; None if the pack does not contain it.
    """
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


def download_output(
    project: Project, run: ClusterRun, task: ClusterTask, output: str, verifier: Verifier
) -> Path:
    """Return a local file with a verified output of a task, which may be loaded.

    A file that was downloaded before is verified again, and downloaded again if it has changed. An artifact
    that an importer registered may be anywhere in the object store, because the author of the run named it in
    the pipeline document, and the user asked for it. Pages do not show it; see download_unverified.

    Args:
        project: The project.
        run: The run.
        task: The task that wrote the output.
        output: The name of the output.
        verifier: Returns the expected digest of the output.

    Raises:
        ToolError: The task has not succeeded, or its output cannot be found or verified.
    """
    if task.state not in _STATES_WITH_OUTPUTS:
        raise _explain_missing_result(project, run, task, task.title)
    target = locate_download(project.folder, run, task, output)
    importer = find_executor(run.document, task.name).get("importer")
    expected = verifier.expect(run, task, output, _read_uri(importer) if importer else "")
    if not expected.fits(target):
        store = ObjectStore(project.settings.object_store)
        uri = (
            ArtifactURI.parse(_read_uri(importer))
            if importer
            else find_output_uri(project, store, run, task, output)
        )
        store.fetch(uri, target)
        expected.check(target, str(uri))
    return target


def download_unverified(  # noqa: PLR0913, PLR0917 - the identification of an output, and a size limit
    project: Project, run: ClusterRun, task: ClusterTask, output: str, uri: str, most: int = 0
) -> Path:
    """Return a local file with an output that the metadata store names; callers must not unpickle it.

    The file is not verified: it may only be read as text or as data.

    Args:
        project: The project.
        run: The run.
        task: The task that wrote the output.
        output: The name of the output.
        uri: URI of the output in the metadata store.
        most: Maximum size in bytes of an output that is a single file; 0 for any size, and for folders.

    Raises:
        TooLargeError: The output is larger.
        ToolError: The output is outside of the run's pipeline root, or cannot be downloaded.
    """
    target = locate_download(project.folder, run, task, output)
    source = resolve_artifact_uri(project.settings.kfp, run, uri)
    if not is_regular(target) and not is_folder(target):
        ObjectStore(project.settings.object_store).fetch(source, target, most)
    return target


def _read_uri(importer: Json) -> str:
    """Return the URI of the artifact that an importer registers."""
    uri = importer.get("artifactUri", {})
    return str(uri.get("constant") or uri.get("runtimeValue", {}).get("constant") or "")


def find_output_uri(
    project: Project, store: ObjectStore, run: ClusterRun, task: ClusterTask, output: str
) -> ArtifactURI:
    """Return the URI of an output; for a cached task, its URI in the run that computed it.

    Args:
        project: The project.
        store: The object store.
        run: The run.
        task: A task that has succeeded or was cached.
        output: The name of the output.

    Raises:
        ToolError: The output is not found.
    """
    searched = []
    for source in _list_sources(project, run, task):
        root = find_pipeline_root(project.settings.kfp, source)
        folder = root.join(source.pipeline_name, source.run_id, task.name)
        searched.append(f"nothing at {folder}")
        for parent in (*reversed(store.list_folders(folder)), folder):
            uri = parent.join(output)
            if store.has(uri):
                return uri
    hint = "kfp.pipeline_root: where the cluster keeps results, if it is not KFP's own place"
    mount = project.settings.object_store.mount
    raise ToolError(
        f"cannot find the {output} of {task.title} in run {run.run_id}",
        found=searched,
        tip=f"object_store.mount: {mount} must hold the buckets; {hint}" if mount else hint,
    )


def _list_sources(project: Project, run: ClusterRun, task: ClusterTask) -> Iterator[ClusterRun]:
    """Yield the run itself, or earlier runs that may have computed the result of a cached task."""
    if task.state != "CACHED":
        yield run
        return
    wanted = _digest_tasks(run)[task.name]
    for answer in fetch_runs(project.settings.kfp, _EARLIER):
        other = ClusterRun(answer)
        is_other = other.document and other.pipeline_name != run.pipeline_name
        if is_other or other.run_id == run.run_id:
            continue
        # The runs in a list may have no tasks.
        other = read_cluster_run(project.settings.kfp, other.run_id)
        same = next((t for t in other.tasks if t.name == task.name), None)
        is_source = same is not None and same.state == "SUCCEEDED"
        if is_source and _digest_tasks(other)[task.name] & wanted:
            yield other


def _digest_tasks(run: ClusterRun) -> dict[str, set[str]]:
    """Return the identifiers of each task's result: the digest of all its inputs, and its cache key."""
    digests: dict[str, str] = {}
    for task in run.tasks:  # upstream first
        step = run.document["root"]["dag"]["tasks"][task.name]
        upstream = {
            name: [digests[source["producerTask"]], source["outputArtifactKey"]]
            for name, source in list_task_inputs(run, task.name).items()
        }
        container = find_container(run.document, task.name)
        parts = [container, read_task_parameters(run, task.name), upstream, step["componentRef"]]
        digests[task.name] = digest_json(parts)
    keys = {
        name: step.get("cachingOptions", {}).get("cacheKey")
        for name, step in run.document["root"]["dag"]["tasks"].items()
    }
    return {
        name: {digest, *([f"key {keys[name]}"] if keys[name] else [])}
        for name, digest in digests.items()
    }


def list_task_inputs(run: ClusterRun, task: str) -> dict[str, Json]:
    """Return the input artifacts of a task by name, with "producerTask" and "outputArtifactKey"."""
    step = run.document["root"]["dag"]["tasks"][task]
    artifacts = step.get("inputs", {}).get("artifacts", {})
    return {
        name: source["taskOutputArtifact"]
        for name, source in sorted(artifacts.items())
        if "taskOutputArtifact" in source
    }


def read_task_parameters(run: ClusterRun, task: str) -> Json:
    """Return the values of a task's parameters in a run: constants, and values of run parameters."""
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
