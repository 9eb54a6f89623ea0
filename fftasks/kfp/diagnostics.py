"""Find out why tasks of a run on Kubeflow Pipelines failed or do not start, from all available sources.

States, pods and outputs are in the metadata store. Logs come from the server of the web UI, the API server,
the object store or Kubernetes. Only Kubernetes knows why a pod does not start; the user's own `kubectl` is
used if no server of KFP has the pod. Nothing is changed on the cluster.

A source that has left two requests without an answer is not asked again, because a run may have hundreds of
pods, and not every server has access to all sources.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fftasks.errors import FFTasksError, SettingsError, ToolError
from fftasks.kfp.client import fetch_artifact_text, fetch_events, fetch_log, fetch_pods, fetch_run
from fftasks.kfp.object_store import ArtifactURI
from fftasks.kfp.pod_log import (
    TaskFailure,
    explain_exit,
    explain_log,
    explain_pod,
    read_task_failure,
)
from fftasks.kfp.run import ClusterRun, find_container
from fftasks.kfp.task_details import FINAL_TASK_STATES, ClusterTask, Json, read_time
from fftasks.path_validation import join_untrusted
from fftasks.state_folder import check_parents, is_regular, read_text

if TYPE_CHECKING:
    from fftasks.config.tree import KFPSettings, Settings
    from fftasks.kfp.task_details import Executions


_REQUEST_S, _TIMEOUT_S = 5, 15
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names
_NAME = re.compile(r"[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?")


class Kubectl:
    """The program in PATH, with the context and the namespace of the settings.

    The names of pods come from the cluster. A pod whose name is invalid in Kubernetes is treated as
    missing. A name such as --server=... would be parsed as an option and send the user's token to another
    server.

    Attributes:
        is_there: Whether the program is installed.
    """

    def __init__(self, settings: KFPSettings) -> None:
        self.is_there = shutil.which("kubectl") is not None
        context = ["--context", settings.kube_context] if settings.kube_context else []
        self._options = [*context, "-n", settings.namespace or "kubeflow"]

    def read_log(self, pod: str) -> str | None:
        """Return the log of the main container of a pod; None if there is no such pod.

        Raises:
            ToolError: The cluster cannot be reached, or does not permit it.
        """
        return self._run("logs", pod, "-c", "main", "--tail=-1") if is_pod_name(pod) else None

    def read_pod(self, pod: str) -> Json | None:
        """Return a pod as Kubernetes describes it; None if it does not exist. Raises as read_log does."""
        return _parse(self._run("get", "pod", pod, "-o", "json")) if is_pod_name(pod) else None

    def read_events(self, pod: str) -> list[Json]:
        """Return the events of a pod; [] if there are none. Raises as read_log does."""
        if not is_pod_name(pod):
            return []
        selector = f"involvedObject.kind=Pod,involvedObject.name={pod}"
        answer = _parse(self._run("get", "events", "--field-selector", selector, "-o", "json"))
        return [event for event in (answer or {}).get("items") or () if isinstance(event, dict)]

    def _run(self, *words: str) -> str | None:
        """Run kubectl and return its output; None if the pod does not exist."""
        command = ["kubectl", f"--request-timeout={_REQUEST_S}s", *self._options, *words]
        try:
            completed = subprocess.run(
                command,
                capture_output=True,
                check=False,
                timeout=_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolError("kubectl does not answer", found=[str(error)]) from error
        if completed.returncode == 0:
            return completed.stdout.decode("utf-8", "replace")
        said = completed.stderr.decode("utf-8", "replace").strip()
        if "NotFound" in said or "not found" in said:
            return None
        raise ToolError("kubectl cannot read from the cluster", found=said.splitlines()[-1:])


def is_pod_name(pod: str) -> bool:
    """Return whether Kubernetes accepts the name of a pod."""
    return _NAME.fullmatch(pod) is not None


def _parse(text: str | None) -> dict[str, Any] | None:
    try:
        answer = json.loads(text or "")
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


_AnswerT = TypeVar("_AnswerT")

DEFAULT_PIPELINE_ROOT = "minio://mlpipeline/v2/artifacts"  # of KFP's own installation
LOG_OUTPUT = "executor-logs"  # output in which launchers of 2.17 store the log
_MOST_FAILURES = 2  # failed requests after which a source is not asked any more
_MOST_CAUSES = 10  # failed tasks whose logs are read
_MOST_WAITS = 3  # waiting tasks whose pods are read
_PAUSE_S = 30.0  # minimum time between two requests to Kubernetes why pods do not start
_PATIENCE_S = 60.0  # waiting time after which the reason is requested


def read_cluster_run(settings: KFPSettings, run_id: str) -> ClusterRun:
    """Read a run, and the metadata store if KFP may have stopped updating the rows of the tasks.

    Raises:
        NotFoundError: The run does not exist.
        ToolError: The server does not answer.
    """
    run = ClusterRun(fetch_run(settings, run_id))
    if run.details.is_quiet:
        return replace(run, executions=_ask_store(settings, run_id))
    return run


def find_pipeline_root(settings: KFPSettings, run: ClusterRun) -> ArtifactURI:
    """Return the pipeline root of a run, which contains all of its artifacts.

    It is the root that the run was started with, else kfp.pipeline_root, else the default of KFP.

    Raises:
        SettingsError: kfp.pipeline_root is not the URI of a place in an object store.
        ToolError: The run was started with an invalid root.
    """
    given = _read_own_root(run)
    root = given or settings.pipeline_root or DEFAULT_PIPELINE_ROOT
    try:
        return ArtifactURI.parse(root.partition("?")[0].rstrip("/"))
    except ToolError as error:
        if given:
            attempted = f"run {run.run_id} has an invalid pipeline root"
            raise ToolError(attempted, found=[error.attempted]) from error
        raise SettingsError(
            "kfp.pipeline_root: invalid value",
            found=[error.attempted],
            tip="set it to a place in the cluster's object store, such as s3://bucket/runs",
        ) from error


def resolve_artifact_uri(settings: KFPSettings, run: ClusterRun, uri: str) -> ArtifactURI:
    """Return the place of an artifact of a run that the metadata store names.

    The metadata store can name any place. Only artifacts below the run's pipeline root belong to the run.
    The artifacts of a cached task are in the folder of another run below the same root.

    Raises:
        ToolError: The URI is invalid, or is not below the pipeline root.
    """
    root = find_pipeline_root(settings, run)
    found = ArtifactURI.parse(uri)
    if found.is_below(root):
        return found
    if _read_own_root(run):
        origin, tip = (
            "set when the run was started",
            "download it with a client of the object store",
        )
    else:
        is_set = settings.pipeline_root
        origin = "from kfp.pipeline_root" if is_set else "the default of Kubeflow Pipelines"
        tip = "if this cluster keeps results elsewhere, set kfp.pipeline_root to that place"
    raise ToolError(
        f"artifact of run {run.run_id} not read: it is outside of the pipeline root",
        found=[f"URI of the artifact: {uri!r}", f"pipeline root: {root} ({origin})"],
        tip=tip,
    )


def _read_own_root(run: ClusterRun) -> str:
    return str((run.answer.get("runtime_config") or {}).get("pipeline_root") or "")


def locate_download(folder: Path, run: ClusterRun, task: ClusterTask, output: str) -> Path:
    """Return the local path for an output of a task, whether it was downloaded or not.

    Raises:
        ToolError: The id of the run, or the name of the task or of the output, cannot be a part of a path.
        StoreError: A folder above it is a symbolic link.
    """
    path = join_untrusted(folder / "cluster", run.run_id, task.name, output)
    check_parents(path)
    return path


def _ask_store(settings: KFPSettings, run_id: str) -> Executions | None:
    from fftasks.kfp.metadata import read_executions

    try:
        return read_executions(settings, run_id)
    except FFTasksError:  # the run can be shown without the store
        return None


@dataclass
class _Source:
    """A source of information that is not asked any more after too many failed requests."""

    failures: list[FFTasksError] = field(default_factory=list)

    def ask(self, question: Callable[[], _AnswerT]) -> _AnswerT | None:
        """Return the answer to a request; None if it failed or if the source is not asked any more."""
        if len(self.failures) >= _MOST_FAILURES:
            return None
        try:
            return question()
        except FFTasksError as error:
            self.failures.append(error)
            return None


class RunDiagnostics:
    """Reads logs, failures and waiting reasons of the tasks of one run when they are first needed.

    Attributes:
        run: The run as KFP describes it.
        namespace: Kubernetes namespace of the pods.
        said: Error message of the API server for the last log that was requested; "" for none.
        refusal: Error for the copy of the log in the object store; None if it was read or does not exist.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        run: ClusterRun,
        before: RunDiagnostics | None = None,
    ) -> None:
        """Store the arguments without sending a request.

        Args:
            settings: The settings of the project.
            folder: The state folder of the project.
            run: The run.
            before: Diagnostics of the previous poll: its logs of ended tasks are kept, and for 30 seconds
                its reasons why tasks do not start.
        """
        self._all_settings, self._folder, self.run = settings, folder, run
        self._settings = settings.kfp
        self.namespace = self._settings.namespace or "kubeflow"
        self._servers, self._store, self._pods = _Source(), _Source(), _Source()
        self._kubectl, self._cluster = Kubectl(self._settings), _Source()
        self._logs = before.list_ended_logs() if before else {}
        self._wait_until: float = before._wait_until if before else 0.0
        self._known_waits: Mapping[str, str] = before._known_waits if before else {}
        self.said = ""
        self.refusal: FFTasksError | None = None

    @functools.cached_property
    def executions(self) -> Executions | None:
        """Executions in the metadata store; None if it cannot be reached, {} if no task has started."""
        if self.run.executions is not None:
            return self.run.executions
        if self.run.details.is_quiet:
            return None  # the store was already asked when the run was read
        if not any(task.began for task in self.run.tasks):
            return {}
        return _ask_store(self._settings, self.run.run_id)

    def complete(self) -> ClusterRun:
        """Return the run with the executions in the metadata store."""
        return replace(self.run, executions=self.executions)

    def read_log(self, task: ClusterTask) -> str | None:
        """Return the log of a task's last pod, or of its failed driver; None if no source has it."""
        pod = task.driver_pod if task.has_failed_driver else self._find_pod(task)
        key = pod or f"task {task.name}"
        if key not in self._logs:
            self._logs[key] = self._ask_log(task, pod)
        return self._logs[key]

    def list_ended_logs(self) -> dict[str, str | None]:
        """Return the logs of ended tasks by pod; the log is None if no source has it."""
        open_pods = {task.pod for task in self.run.tasks if task.ended is None}
        return {pod: log for pod, log in self._logs.items() if pod not in open_pods}

    @functools.cached_property
    def outcomes(self) -> Mapping[str, TaskFailure]:
        """How the first ten failed tasks failed, by the name of the task."""
        failed = [task for task in self.run.tasks if task.state == "FAILED"]
        return {task.name: self._find_outcome(task) for task in failed[:_MOST_CAUSES]}

    @functools.cached_property
    def root_failure(self) -> str:
        """Why the run's own driver failed, which starts all tasks; "" if it did not."""
        driver = self.run.details.read_root_driver()
        if driver.state != "FAILED":
            return ""
        reason = self._find_reason(driver, self.read_log(driver) or "")
        return (
            f"the driver of the run failed before any node started{': ' if reason else ''}{reason}"
        )

    @functools.cached_property
    def waits(self) -> Mapping[str, str]:
        """Why the first three tasks that have waited over a minute wait, by task; "" if unknown."""
        waiting = {task.name: task for task in self.run.tasks if _is_stalled(self.run, task)}
        if waiting and time.monotonic() >= self._wait_until:
            asked = list(waiting)[:_MOST_WAITS]
            self._known_waits = {name: self._find_wait(waiting[name]) for name in asked}
            self._wait_until = time.monotonic() + _PAUSE_S
        return {
            name: reason
            for name, reason in self._known_waits.items()
            if name in waiting and (reason or waiting[name].state != "RUNNING")
        }

    def _find_wait(self, task: ClusterTask) -> str:
        """Return why the pod of a task, or of its driver, does not start; "" if it is unknown."""
        pod = task.pod or task.driver_pod
        return self._ask_kubernetes(pod, self._find_limit(task)) if pod else ""

    def _find_pod(self, task: ClusterTask) -> str:
        execution = (self.executions or {}).get(task.name)
        if execution is None or not execution.pod:
            return task.pod
        known = next((one.pod for one in self.complete().tasks if one.name == task.name), "")
        return known or task.pod

    def _find_outcome(self, task: ClusterTask) -> TaskFailure:
        log = self.read_log(task) or ""
        if task.has_failed_driver:
            return TaskFailure(reason=self._find_reason(task, log))
        outcome = read_task_failure(log, task.nodes)
        return replace(outcome, reason=outcome.reason or self._find_reason(task, log))

    def _find_reason(self, task: ClusterTask, log: str) -> str:
        limit = self._find_limit(task) if task.nodes else ""
        pod = task.driver_pod if task.has_failed_driver else self._find_pod(task)
        reason = explain_log(log, limit)
        if not reason and not explain_exit(log) and pod:
            reason = self._ask_kubernetes(pod, limit)
        return reason or task.error or explain_exit(log)

    def _find_limit(self, task: ClusterTask) -> str:
        resources = find_container(self.run.document, task.name).get("resources", {})
        return str(resources.get("resourceMemoryLimit", ""))

    def _ask_log(self, task: ClusterTask, pod: str) -> str | None:
        log, self.refusal = None, None
        if pod:
            answer = dict(self.run.answer)
            found = self._servers.ask(lambda: fetch_log(self._settings, answer, pod))
            log, self.said = found or (None, "")
        if log is None and not task.has_failed_driver:
            log = self._store.ask(lambda: self._download_log(task))
        if log is None and pod and self._kubectl.is_there:
            log = self._cluster.ask(lambda: self._kubectl.read_log(pod))
        return log

    def _download_log(self, task: ClusterTask) -> str | None:
        """Return the output of the command from the object store; None if it is not stored there."""
        from fftasks.kfp.object_store import ObjectStore

        execution = (self.executions or {}).get(task.name)
        kept = execution.outputs.get(LOG_OUTPUT) if execution else None
        if kept is None:
            return None
        try:
            uri = resolve_artifact_uri(self._settings, self.run, kept.uri)
        except FFTasksError as error:
            self.refusal = error
            return None
        text = self._servers.ask(lambda: fetch_artifact_text(self._settings, uri))
        if text is not None:
            return text
        target = locate_download(self._folder, self.run, task, uri.names[-1])
        if not is_regular(target):
            ObjectStore(self._all_settings.object_store).fetch(uri, target)
        return read_text(target)

    def _ask_kubernetes(self, pod: str, limit: str) -> str:
        """Return why a pod fails or waits, from Kubernetes; "" if its status is normal or unknown."""
        found = self._pods.ask(lambda: fetch_pods(self._settings, [pod]))
        if found:
            events = self._pods.ask(lambda: fetch_events(self._settings, pod))
            return explain_pod(found[pod], events or (), limit)
        if not self._kubectl.is_there:
            return ""
        known = self._cluster.ask(lambda: self._kubectl.read_pod(pod))
        told = self._cluster.ask(lambda: self._kubectl.read_events(pod))
        return explain_pod(known or {}, told or (), limit)


def _is_stalled(run: ClusterRun, task: ClusterTask) -> bool:
    """Return whether a task or its driver has probably waited for a machine or an image for a minute.

    It is uncertain if several pods started in the same second, because their rows cannot be distinguished.
    """
    if run.is_over or task.state in FINAL_TASK_STATES:
        return False
    is_driver = task.state == "" and task.driver.get("state") == "PENDING"
    began = read_time(task.driver.get("start_time")) if is_driver else task.began
    if began is None or not (is_driver or task.state == "PENDING" or "state" not in task.step):
        return False
    return datetime.now(timezone.utc) - began > timedelta(seconds=_PATIENCE_S)
