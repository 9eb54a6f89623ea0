"""Verify files of a run on the cluster before they are unpickled here.

Unpickling a file can execute code, and not everyone with write access to the bucket is allowed to execute
code on the user's machine. So the pod that writes an output records its digest in the metadata of the
artifact (runtime/executor_input.py), and `doit result` and `doit replay` compare a file with that digest each
time before they load it. The metadata store is reached through KFP and is not part of the bucket.

Bring results of a run on the cluster here.

KFP's interface does not say where they are, and the metadata store that does (ports/kfp_metadata.py) is
behind the page's server only. But a task's outputs lie at a place that all backends agree upon:

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
from typing import TYPE_CHECKING

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
from fftasks.kfp.task_details import ClusterTask, Json
from fftasks.project import Project
from fftasks.records import digest_json
from fftasks.runner.artifact import digest_artifact, read_pack
from fftasks.runner.executor_input import DIGEST
from fftasks.runner.task import PACKS
from fftasks.state_folder import is_folder, is_regular, move, open_new, open_regular, remove

if TYPE_CHECKING:
    from fftasks.kfp.task_details import Executions
    from fftasks.project import Project

_DIGEST = re.compile(r"sha256:[0-9a-f]{32}(?:[0-9a-f]{32})?")
_RUN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_WAY = "kfp.host is not the address of the web UI, so the metadata store cannot be reached"
_NO_DIGEST = (
    "the run recorded no digest of it: an older version of fftasks or another component wrote it, or it is an"
    " input of a task with more than 200 inputs, which has no room for digests"
)
_TRUST = "`--trust` loads it unverified: anyone with write access to the bucket can then execute code as you"


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
        """Return whether an existing file or folder may be loaded; remove it if not.

        A file of an earlier download is verified again: it may have been edited, or downloaded with --trust.
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
    """The verifier reads the digests that runs recorded, with one request per run to the metadata store.

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
        if uri:
            runs = _RUN_ID.findall(uri)
            outputs = [
                one
                for run_id in dict.fromkeys(runs)
                for execution in self._ask(run_id).values()
                for one in execution.outputs.values()
                if one.uri.partition("?")[0] == uri.partition("?")[0]
            ]
        else:
            execution = self._ask(run.run_id).get(task.name)
            found = execution.outputs.get(output) if execution else None
            outputs = [found] if found else []
        digests = [str(one.properties.get(DIGEST, "")) for one in outputs]
        return next((digest for digest in digests if _DIGEST.fullmatch(digest)), "")

    def _ask(self, run_id: str) -> Executions:
        from fftasks.kfp.metadata import read_executions

        if run_id not in self._executions:
            self._executions[run_id] = read_executions(self._project.settings.kfp, run_id)
        found = self._executions[run_id]
        if found is None:
            raise ToolError(_NO_WAY)
        return found


_STATES_WITH_OUTPUTS = frozenset(
    {"SUCCEEDED", "CACHED"}
)  # the states of tasks whose outputs are kept
_EARLIER = 100
_STEP = 1 << 24


def download_result(project: Project, run: ClusterRun, node: str, verifier: Verifier) -> Path:
    """Download and verify the result of a node, as download_output does; return the local file.

    The result of a node that shares its container with others is extracted from their pack, which is verified
    as a whole.

    Raises:
        ToolError: The object store does not have the result, or it cannot be verified.
    """
    task = run.find_task(node)
    if task.state not in _STATES_WITH_OUTPUTS:
        raise _explain_missing_result(project, run, task, node)
    outputs = list_artifact_names(run.document, task.name)
    if "result" in outputs:
        return download_output(project, run, task, "result", verifier)
    for output in (name for name in PACKS if name in outputs):
        found = extract_result(download_output(project, run, task, output, verifier), node)
        if found is not None:
            return found
    raise ToolError(
        f"the result of {node!r} was not kept in run {run.run_id}",
        found=[f"task {task.name} gives {', '.join(outputs) or 'nothing'}"],
        tip=_tell_replay(run, node),
    )


def _explain_missing_result(
    project: Project, run: ClusterRun, task: ClusterTask, node: str
) -> ToolError:
    """Return the error for a node whose task has not ended well, or for a task by its title."""
    evidence = RunDiagnostics(project.settings, project.folder, run)
    outcome = evidence.outcomes.get(task.name, TaskFailure())
    is_node, failed = node in task.nodes, outcome.failed
    state = get_node_state(run, task, node, outcome) if is_node else get_task_state(run, task)
    attempted, found = f"{node} has no result in run {run.run_id}", [f"its state is {state}"]
    if len(task.nodes) > 1 and failed == node:
        error = outcome.error or outcome.reason
        return ToolError(attempted, found=[*found, error], tip=_tell_replay(run, node))
    if len(task.nodes) > 1 and failed:
        found.append(f"of a pod that fails nothing is kept: {format_task_error(task, outcome)}")
    elif task.state == "FAILED":
        found.append(format_task_error(task, outcome))
        failed = node if is_node else ""
    elif state == "skipped":
        found += list_task_errors(run, evidence.outcomes)
    tips = [_tell_logs(run, failed)] if failed else []
    can_run = is_node and not task.has_failed_driver
    tips += [_tell_replay(run, node)] if failed and can_run else []
    return ToolError(attempted, found=found, tip="; ".join(tips))


def _tell_logs(run: ClusterRun, node: str) -> str:
    return f"`doit logs {shlex.quote(node)} {shlex.quote(run.run_id[:8])}` shows why"


def _tell_replay(run: ClusterRun, node: str) -> str:
    return f"`doit replay {shlex.quote(node)} {shlex.quote(run.run_id[:8])}` computes it here"


def extract_result(path: Path, node: str) -> Path | None:
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


def download_unverified(  # noqa: PLR0913, PLR0917 - what an output is known by, and its largest size
    project: Project, run: ClusterRun, task: ClusterTask, output: str, uri: str, most: int = 0
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
    target, place = (
        locate_download(project.folder, run, task, output),
        resolve_artifact_uri(project.settings.kfp, run, uri),
    )
    if not is_regular(target) and not is_folder(target):
        ObjectStore(project.settings.object_store).fetch(place, target, most)
    return target


def _read_uri(importer: Json) -> str:
    uri = importer.get("artifactUri", {})
    return str(uri.get("constant") or uri.get("runtimeValue", {}).get("constant") or "")


def find_output_uri(
    project: Project, store: ObjectStore, run: ClusterRun, task: ClusterTask, output: str
) -> ArtifactURI:
    """Return the place of an output; for a cached task, its place in the run that computed it.

    Raises ToolError if it is in none of the places that were looked at.
    """
    looked = []
    for source in _list_sources(project, run, task):
        root = find_pipeline_root(project.settings.kfp, source)
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


def _list_sources(project: Project, run: ClusterRun, task: ClusterTask) -> Iterator[ClusterRun]:
    """Yield the run itself, or those earlier ones that may have computed what is cached."""
    if task.state != "CACHED":
        yield run
        return
    wanted = _digest_tasks(run)[task.name]
    for answer in fetch_runs(project.settings.kfp, _EARLIER):
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
    """Return a task's inputs: name -> {"producerTask", "outputArtifactKey"}."""
    step = run.document["root"]["dag"]["tasks"][task]
    artifacts = step.get("inputs", {}).get("artifacts", {})
    return {
        name: source["taskOutputArtifact"]
        for name, source in sorted(artifacts.items())
        if "taskOutputArtifact" in source
    }


def read_task_parameters(run: ClusterRun, task: str) -> Json:
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
