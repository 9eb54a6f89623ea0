"""`doit cancel [RUN]`: cancel a run on Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fftasks.cli.command import ClusterCommand
from fftasks.errors import ToolError
from fftasks.kfp.client import cancel_run
from fftasks.kfp.diagnostics import read_cluster_run
from fftasks.kfp.node_status import convert_kfp_state
from fftasks.project import Project
from fftasks.report.run_status import resolve_run


class CancelCommand(ClusterCommand):
    """Request the cancellation of a run that has not ended."""

    doc_purpose = "cancel a run on Kubeflow Pipelines"
    doc_usage = "[RUN]"
    name = "cancel"
    cmd_options = ()

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:  # noqa: ARG002
        """Cancel the run and print its name."""
        run = resolve_run(project, *names)
        if not run.is_over:
            try:
                cancel_run(project.settings.kfp, run.run_id)
            except ToolError:
                # Kubeflow Pipelines refuses to cancel a run that has ended, perhaps a moment ago.
                run = read_cluster_run(project.settings.kfp, run.run_id)
                if not run.is_over:
                    raise
            else:
                print(
                    f"cancellation requested for run {run.name!r} ({run.run_id}); it may take a minute."
                    " KFP will show the run as failed, `doit status` as canceled;"
                    " `doit submit` starts another"
                )
                return 0
        print(f"run {run.name!r} ({run.run_id}) has already ended: {convert_kfp_state(run.state)}")
        return 0
