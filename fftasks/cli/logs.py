"""`doit logs NODE [RUN]`: print the log of a node on Kubeflow Pipelines."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from fftasks.api.names import make_slug
from fftasks.cli.command import ClusterCommand, make_flag
from fftasks.errors import ToolError
from fftasks.kfp.diagnostics import RunDiagnostics, is_pod_name
from fftasks.kfp.node_status import convert_kfp_state, list_task_errors
from fftasks.kfp.pod_log import filter_node_log
from fftasks.kfp.run import ClusterRun
from fftasks.kfp.task_details import ClusterTask
from fftasks.project import Project
from fftasks.report.run_status import format_wait_reasons, resolve_run
from fftasks.state_folder import is_regular
from fftasks.terminal import unwrap_stream

_ALL = make_flag(
    "all",
    "print the whole log of the pod, including the KFP launcher and other nodes",
    short="a",
    name="everything",
)


class LogsCommand(ClusterCommand):
    """Print the log of the pod of a node, or of its KFP driver if the driver has failed."""

    doc_purpose = "print the log of a node on Kubeflow Pipelines"
    doc_usage = "NODE [RUN]"
    name = "logs"
    cmd_options = (_ALL,)
    least, most = 1, 2

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Print the log.

        Raises:
            ToolError: No server has the log; the hint is the kubectl command that may have it.
        """
        node, *wanted = names
        try:
            found = resolve_run(project, *wanted)
        except ToolError as error:
            raise _add_local_log(project, node, error) from error
        evidence = RunDiagnostics(project.settings, project.folder, found)
        run = evidence.complete()
        task = run.find_task(node)
        _check_started(run, task, node, evidence)
        log = evidence.read_log(task)
        if log is None:
            raise _make_no_log_error(run, task, node, evidence)
        # output that is piped or redirected is not escaped
        stream = sys.stdout if sys.stdout.isatty() else unwrap_stream(sys.stdout)
        stream.write(log if options["everything"] else filter_node_log(log, task, node))
        return 0


def _add_local_log(project: Project, node: str, error: ToolError) -> ToolError:
    """Add the path of the node's local log to an error about a run that was not found."""
    path = project.store.log_path(make_slug(node))
    if not is_regular(path):
        return error
    found = [*error.found, f"log of its last local run: {os.path.relpath(path)}"]
    return type(error)(error.attempted, found=found, tip=error.tip)


def _check_started(run: ClusterRun, task: ClusterTask, node: str, evidence: RunDiagnostics) -> None:
    if task.state == "CACHED":
        tip = "`doit runs` lists the earlier runs, one of which computed the result"
        problem = f"{node!r} did not run in run {run.run_id}: KFP took its result from the cache"
        raise ToolError(problem, tip=tip)
    if task.state in ("", "PENDING") or not (task.pod or task.driver_pod):
        found = [task.error] if task.error else []
        if run.is_over:
            found += list_task_errors(run, evidence.outcomes)
            raise ToolError(f"{node!r} was not started in run {run.run_id}", found=found)
        found += [
            line for name, line in format_wait_reasons(run, evidence).items() if name == task.name
        ]
        raise ToolError(f"{node!r} has not started in run {run.run_id}", found=found)


def _make_no_log_error(
    run: ClusterRun, task: ClusterTask, node: str, evidence: RunDiagnostics
) -> ToolError:
    """Return the error for a log that no server has."""
    pod = task.driver_pod if task.has_failed_driver else task.pod
    label = shlex.quote(f"pipeline/runid={run.run_id}")
    chosen = pod if is_pod_name(pod) else f"-l {label} --prefix"
    reason = evidence.outcomes[task.name].reason if task.name in evidence.outcomes else task.error
    ended = [f"its state is {convert_kfp_state(task.state)}{f': {reason}' if reason else ''}"]
    said = [f"the API server says: {evidence.said}"] if evidence.said else []
    command = f"kubectl logs -n {shlex.quote(evidence.namespace)} {chosen} -c main --tail=-1"
    refusal = evidence.refusal
    refused = [refusal.attempted, *refusal.found] if refusal else []
    return ToolError(
        f"log of {node!r} in run {run.run_id} not found",
        found=[*ended, *said, *refused, "its pod was deleted, or this account cannot read it"],
        tip=f"{refusal.tip}; or {command}" if refusal and refusal.tip else command,
    )
