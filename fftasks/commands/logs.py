"""`doit logs NODE [RUN]`: what a node printed on the cluster."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from fftasks.cluster.choose import find_run
from fftasks.cluster.details import Task
from fftasks.cluster.outcome import choose_lines
from fftasks.cluster.run import ClusterRun
from fftasks.commands.command import ClusterCommand
from fftasks.errors import ToolError
from fftasks.ports.kfp_runs import read_log
from fftasks.project import Project


class Logs(ClusterCommand):
    """Print the log of the pod that runs a node, or has run it."""

    doc_purpose = "print what a node printed on Kubeflow Pipelines"
    doc_usage = "NODE [RUN]"
    name = "logs"
    cmd_options = ()
    least, most = 1, 2

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:  # noqa: ARG002
        """Print the log, or the command that would."""
        node, *wanted = names
        run = find_run(project, *wanted)
        task = run.find_task(node)
        _check_begun(run, task, node)
        log = read_log(project.settings.kfp, dict(run.answer), task.pod) if task.pod else None
        if log is None:
            raise _refuse(project, run, task, node)
        sys.stdout.write(choose_lines(log, task, node))
        return 0


def _check_begun(run: ClusterRun, task: Task, node: str) -> None:
    if task.state == "CACHED":
        tip = "`doit runs` lists earlier runs: one of them has computed it"
        problem = f"{node!r} printed nothing in run {run.run_id}: its result is a cached one"
        raise ToolError(problem, tip=tip)
    if task.state in ("", "PENDING"):
        found = [task.error] if task.error else []
        raise ToolError(f"{node!r} has not begun in run {run.run_id}", found=found)


def _refuse(project: Project, run: ClusterRun, task: Task, node: str) -> ToolError:
    namespace = project.settings.kfp.namespace or "kubeflow"
    pod = task.pod or f"-l pipeline/runid={run.run_id} --prefix"
    return ToolError(
        f"no server gives the log of {node!r} in run {run.run_id}",
        found=[
            *([task.error] if task.error else []),
            "its pod may be gone, or not be readable from here",
        ],
        tip=f"kubectl logs -n {namespace} {pod} -c main --tail=-1",
    )
