"""`doit replay NODE [RUN]`: run a node on this machine with its inputs from Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.cli.command import ClusterCommand, make_flag
from fftasks.cli.result import TRUST_OPTION, show_artifact
from fftasks.pipeline.download import Verifier, extract_result
from fftasks.pipeline.replay import replay_here, replay_in_image
from fftasks.project import Project
from fftasks.report.run_status import resolve_run
from fftasks.runner.task import OUTPUT_PACKS

_PDB = make_flag("pdb", "start the Python debugger if the function raises an exception")
_DOCKER = make_flag(
    "docker",
    "run in a container of the image of the run (default: this Python and the current code)",
)


class ReplayCommand(ClusterCommand):
    """Run a node again, without changes to the cluster or to local results."""

    doc_purpose = "run a node on this machine with its inputs from Kubeflow Pipelines"
    doc_usage = "NODE [RUN]"
    name = "replay"
    cmd_options = (_PDB, _DOCKER, TRUST_OPTION)
    least, most = 1, 2

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Run the node, print its result if it succeeded, and return its exit code."""
        node, *wanted = names
        run = resolve_run(project, *wanted)
        task = run.find_task(node)
        replay = replay_in_image if options["docker"] else replay_here
        verifier = Verifier(project, trust=options["trust"])
        code, folder = replay(project, run, task, node, verifier, pdb=options["pdb"])
        path = _find_result(folder, node) if code == 0 else None
        return code if path is None else show_artifact(project, run.find_file(task), path)


def _find_result(folder: Path, node: str) -> Path | None:
    if (folder / "result").exists():
        return folder / "result"
    packs = [folder / name for name in OUTPUT_PACKS if (folder / name).exists()]
    return next((path for path in (extract_result(pack, node) for pack in packs) if path), None)
