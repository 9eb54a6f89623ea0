"""`doit runs`: list the runs of the experiment on Kubeflow Pipelines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fftasks.cli.command import JSON_OPTION, ClusterCommand, make_flag
from fftasks.kfp.client import fetch_runs
from fftasks.kfp.node_status import convert_kfp_state
from fftasks.kfp.run import ClusterRun
from fftasks.project import Project
from fftasks.report.run_status import format_local_time, format_run_duration, list_submit_records
from fftasks.report.table import Cell, Column, Row, make_state_cell, print_json, print_table
from fftasks.task_states import STATES

_NUMBER = {
    "name": "number", "short": "n", "long": "number", "type": int, "default": 20,
    "help": "maximum number of runs, newest first [default: %(default)s]",
}  # fmt: skip
_ALL = make_flag("all", "include runs that fftasks did not start", short="a", name="everything")
_COLUMNS = (
    *(Column(), Column("run"), Column("name", wraps=True), Column("workflow", wraps=True)),
    *(Column("state"), Column("started"), Column("time", right=True)),
)


class RunsCommand(ClusterCommand):
    """List runs, newest first."""

    doc_purpose = "list the runs on Kubeflow Pipelines"
    doc_usage = ""
    doc_description = (
        "Lists runs of the experiment kfp.experiment; * marks the run that was submitted last."
    )
    name = "runs"
    cmd_options = (_NUMBER, _ALL, JSON_OPTION)
    most = 0

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:  # noqa: ARG002
        """Print the runs."""
        found = [ClusterRun(run) for run in fetch_runs(project.settings.kfp, options["number"])]
        runs = [run for run in found if options["everything"] or run.workflow]
        if options["as_json"]:
            print_json([_to_json(run) for run in runs])
            return 0
        if not runs:
            print(
                f"no runs in experiment {project.settings.kfp.experiment!r}; `doit submit` starts one"
            )
        last = {record["run_id"] for record in list_submit_records(project)}
        print_table(_COLUMNS, list(_make_rows(runs, last)))
        return 0


def _make_rows(runs: list[ClusterRun], last: set[str]) -> Iterator[Row]:
    for run in runs:
        word = convert_kfp_state(run.state)
        mark = "*" if run.run_id in last else ""
        yield (
            *(make_state_cell(word, sys.stdout), f"{run.run_id[:8]}{mark}", run.name, run.workflow),
            *(
                Cell(word, STATES[word].ansi),
                format_local_time(run.began),
                format_run_duration(run),
            ),
        )


def _to_json(run: ClusterRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "workflow": run.workflow,
        "state": run.state,
        "began": run.began and run.began.isoformat(),
        "ended": run.ended and run.ended.isoformat(),
    }
