"""`doit status [RUN]`: the nodes of a run on the cluster, and how they are."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fftasks.cluster.account import Accounts, ask_accounts, list_seconds
from fftasks.cluster.choose import find_run
from fftasks.cluster.evidence import Evidence
from fftasks.cluster.memory import note_run
from fftasks.cluster.outcome import Outcome
from fftasks.cluster.run import ClusterRun
from fftasks.cluster.show import (
    COLUMNS,
    make_row,
    name_node_state,
    tell_error,
    tell_head,
    tell_unknown,
    tell_waits,
    to_json,
)
from fftasks.commands.command import JSON, ClusterCommand
from fftasks.project import Project
from fftasks.table import Row, print_json, print_table


class Status(ClusterCommand):
    """Print a run's nodes with states and times."""

    doc_purpose = "show the status of a run on Kubeflow Pipelines"
    doc_usage = "[RUN]"
    name = "status"
    cmd_options = (JSON,)

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Print the run; the exit code says only whether it could be read."""
        evidence = Evidence(project, find_run(project, *names))
        run = evidence.complete()
        accounts = ask_accounts(run, evidence)
        note_run(project, run, list_seconds(run, accounts))
        if options["as_json"]:
            print_json(to_json(run, evidence.outcomes, accounts))
            return 0
        print(tell_head(run))
        print_table(COLUMNS, _list_rows(run, evidence.outcomes, accounts), indent=2)
        for line in _list_problems(run, evidence):
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


def _list_problems(run: ClusterRun, evidence: Evidence) -> list[str]:
    """Return the lines below the table: failures with their reasons, and what keeps tasks waiting."""
    failed = [task for task in run.tasks if task.state == "FAILED"]
    found = {task.name: evidence.outcomes.get(task.name, Outcome()) for task in failed}
    known = [task for task in failed if found[task.name].reason or task.error]
    known += [task for task in failed if task.has_failed_driver and task not in known]
    lines = [tell_error(task, found[task.name]) for task in failed if task in known]
    if not failed and run.state == "FAILED":
        reason = run.error or evidence.root_failure
        lines += [reason] if reason else []
    lines += [*tell_waits(run, evidence).values(), *tell_unknown(run, evidence)]
    if failed:
        task = failed[0]
        node = found[task.name].failed or (task.nodes or (task.name,))[0]
        lines.append(
            f"tip: `doit logs {shlex.quote(node)} {shlex.quote(run.run_id[:8])}` shows its log"
        )
    return lines
