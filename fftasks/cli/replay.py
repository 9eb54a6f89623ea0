"""`doit replay NODE [RUN]`: run a node of the cluster here, with the inputs that it had there."""

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
from fftasks.runner.task import PACKS

_PDB = make_flag("pdb", "stop in Python's debugger where the node's function raises")
_DOCKER = make_flag(
    "docker",
    "in a container of the image that the run had; else by this Python, with the code as it is now",
)


class ReplayCommand(ClusterCommand):
    """Run a node again; nothing on the cluster is touched, and no result here is replaced."""

    doc_purpose = "run a node of Kubeflow Pipelines here, with the inputs it had there"
    doc_usage = "NODE [RUN]"
    name = "replay"
    cmd_options = (_PDB, _DOCKER, TRUST_OPTION)
    least, most = 1, 2

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Run it; return the exit code that it had, and print its result if it has one."""
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
    packs = [folder / name for name in PACKS if (folder / name).exists()]
    return next((path for path in (extract_result(pack, node) for pack in packs) if path), None)
