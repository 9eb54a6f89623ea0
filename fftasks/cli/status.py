"""`doit status [RUN]`: print the states of the nodes of a run on Kubeflow Pipelines."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fftasks.cli.command import JSON_OPTION, ClusterCommand
from fftasks.kfp.diagnostics import RunDiagnostics
from fftasks.kfp.node_status import (
    Accounts,
    collect_node_metrics,
    format_task_error,
    get_node_state,
    list_node_durations,
)
from fftasks.kfp.pod_log import TaskFailure
from fftasks.kfp.run import ClusterRun
from fftasks.pipeline.run_index import record_run
from fftasks.project import Project
from fftasks.report.run_status import (
    NODE_COLUMNS,
    convert_run_to_json,
    format_run_summary,
    format_unknown_states,
    format_wait_reasons,
    make_node_row,
    resolve_run,
)
from fftasks.report.table import Row, print_json, print_table


class StatusCommand(ClusterCommand):
    """Print the nodes of a run with states and times."""

    doc_purpose = "show the status of a run on Kubeflow Pipelines"
    doc_usage = "[RUN]"
    name = "status"
    cmd_options = (JSON_OPTION,)

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Print the run. The exit code is 0 if the run could be read, whatever its state."""
        evidence = RunDiagnostics(project.settings, project.folder, resolve_run(project, *names))
        run = evidence.complete()
        accounts = collect_node_metrics(run, evidence)
        record_run(project, run, list_node_durations(run, accounts))
        if options["as_json"]:
            print_json(convert_run_to_json(run, evidence.outcomes, accounts))
            return 0
        print(format_run_summary(run))
        print_table(NODE_COLUMNS, _list_rows(run, evidence.outcomes, accounts), indent=2)
        for line in _list_problems(run, evidence):
            print(line)
        return 0


def _list_rows(
    run: ClusterRun, outcomes: Mapping[str, TaskFailure], accounts: Accounts
) -> Iterator[Row]:
    for task in run.tasks:
        for node in task.nodes:
            account = accounts.get(node)
            word = get_node_state(run, task, node, outcomes.get(task.name), account)
            yield make_node_row(task, node, word, account, sys.stdout)


def _list_problems(run: ClusterRun, evidence: RunDiagnostics) -> list[str]:
    """Return the lines below the table: causes of failures, and why tasks are waiting."""
    failed = [task for task in run.tasks if task.state == "FAILED"]
    found = {task.name: evidence.outcomes.get(task.name, TaskFailure()) for task in failed}
    known = [task for task in failed if found[task.name].reason or task.error]
    known += [task for task in failed if task.has_failed_driver and task not in known]
    lines = [format_task_error(task, found[task.name]) for task in failed if task in known]
    if not failed and run.state == "FAILED":
        reason = run.error or evidence.root_failure
        lines += [reason] if reason else []
    lines += [*format_wait_reasons(run, evidence).values(), *format_unknown_states(run, evidence)]
    if failed:
        task = failed[0]
        node = found[task.name].failed or (task.nodes or (task.name,))[0]
        lines.append(
            f"hint: `doit logs {shlex.quote(node)} {shlex.quote(run.run_id[:8])}` shows its log"
        )
    return lines
