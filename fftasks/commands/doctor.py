"""`doit doctor`: is everything there that `doit submit` needs?"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from fftasks.commands.command import JSON, ClusterCommand
from fftasks.doctor.finding import FAIL, OK, WARN, Check, Finding, run_checks
from fftasks.doctor.image import (
    check_base,
    check_engine,
    check_pull,
    check_registry,
    check_settings,
)
from fftasks.doctor.kfp import check_kfp
from fftasks.doctor.nodes import check_graphs, check_nodes, check_pipeline
from fftasks.project import Project
from fftasks.table import Cell, Column, Row, print_json, print_table

CHECKS: dict[str, Check] = {
    "settings": check_settings,
    "workflows": check_graphs,
    "nodes": check_nodes,
    "tasks": check_pipeline,
    "engine": check_engine,
    "base image": check_base,
    "registry": check_registry,
    "pull secret": check_pull,
    "KFP host": check_kfp,
}
_COLUMNS = (Column(), Column(), Column(wraps=True))
_STYLES = {OK: "32", WARN: "33", FAIL: "31"}


class Doctor(ClusterCommand):
    """Look at everything, and offer a cure for what is wrong; nothing is built or sent."""

    doc_purpose = "check all that doit submit needs, with a cure for what is wrong"
    doc_usage = ""
    doc_description = "The exit code is 1 if something would make doit submit fail."
    name = "doctor"
    cmd_options = (JSON,)
    most = 0

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:  # noqa: ARG002
        """Run all checks, and print what they find as they find it."""
        findings = []
        for finding in run_checks(project, CHECKS):
            findings.append(finding)
            if not options["as_json"]:
                print_table(_COLUMNS, list(_make_rows(finding)))
                sys.stdout.flush()
        if options["as_json"]:
            print_json([finding.to_json() for finding in findings])
        return int(any(finding.level == FAIL for finding in findings))


def _make_rows(finding: Finding) -> list[Row]:
    level = Cell(f"{finding.level:4}", _STYLES[finding.level])
    rows: list[Row] = [(level, f"{finding.check:13}", finding.found)]
    if finding.cure:
        rows.append(("", "", f"cure: {finding.cure}"))
    return rows
