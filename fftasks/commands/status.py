"""`doit status [RUN]`: the nodes of a run on the cluster, and how they are."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fftasks.cluster.account import Accounts, ask_accounts, list_seconds
from fftasks.cluster.choose import find_run
from fftasks.cluster.memory import note_run
from fftasks.cluster.outcome import Outcome, read_outcomes
from fftasks.cluster.run import ClusterRun
from fftasks.cluster.show import (
    COLUMNS,
    make_row,
    name_node_state,
    name_state,
    tell_error,
    tell_head,
    to_json,
)
from fftasks.cluster.watch import find_log
from fftasks.commands.command import JSON, ClusterCommand
from fftasks.project import Project
from fftasks.table import Row, print_json, print_table


class Status(ClusterCommand):
    """Print a run's nodes with states and times."""

    doc_purpose = "show how a run on Kubeflow Pipelines is"
    doc_usage = "[RUN]"
    name = "status"
    cmd_options = (JSON,)

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Print the run; the exit code says only whether it could be read."""
        run = find_run(project, *names)
        find = find_log(project, run)
        accounts = ask_accounts(project, run, find)
        note_run(project, run, list_seconds(run, accounts))
        outcomes = read_outcomes(run, find)
        if options["as_json"]:
            print_json(to_json(run, outcomes, accounts))
            return 0
        print(tell_head(run))
        print_table(COLUMNS, _list_rows(run, outcomes, accounts), indent=2)
        for line in _list_problems(run, outcomes):
            print(line)
        return 0


def _list_rows(
    run: ClusterRun, outcomes: Mapping[str, Outcome], accounts: Accounts
) -> Iterator[Row]:
    for task in run.tasks:
        for node in task.nodes:
            account = accounts.get(node)
            word = name_node_state(run, task, node, outcomes.get(task.name), account)
            yield make_row(task, node, word, account, sys.stdout)


def _list_problems(run: ClusterRun, outcomes: Mapping[str, Outcome]) -> list[str]:
    failed = [task for task in run.tasks if name_state(task.state) == "failed"]
    found = {task.name: outcomes.get(task.name, Outcome()) for task in failed}
    lines = [tell_error(task, found[task.name]) for task in failed if task.error]
    if run.error and not lines:
        lines = [run.error]
    if failed:
        task = failed[0]
        node = found[task.name].failed or (task.nodes or (task.name,))[0]
        lines.append(f"tip: `doit logs {shlex.quote(node)} {run.run_id[:8]}` shows its log")
    return lines
