"""`doit result NODE [RUN]`: print the result of a node, of a local run or a run on Kubeflow Pipelines."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidCommand

from fftasks.cache.results import find_result_file
from fftasks.cli.command import CLUSTER_OPTION, JSON_OPTION, ProjectCommand, make_flag
from fftasks.errors import StoreError
from fftasks.graph.run_parameters import format_parameters, list_get_var_names
from fftasks.project import Project
from fftasks.report.table import print_json
from fftasks.runner.start import RUNNER_MODULE, make_command
from fftasks.tasks.node_lookup import (
    is_node_up_to_date,
    list_differing_parameters,
    look_up_node,
    parse_node_name,
)

if TYPE_CHECKING:
    from fftasks.pipeline.download import Verifier

TRUST_OPTION = make_flag(
    "trust",
    "load files of Kubeflow Pipelines whose digest is unknown or differs from the recorded digest: "
    "anyone with write access to the bucket can then execute code as you",
)


class ResultCommand(ProjectCommand):
    """Print repr() of the result of a node; print a warning to stderr if it is out of date."""

    doc_purpose = "print the result of a node"
    doc_usage = "NODE [RUN]"
    doc_description = (
        "Prints repr() of the result of the last local run of the node; with RUN (ID, prefix of an ID, "
        "or name of a run) or --cluster, the result of a run on Kubeflow Pipelines. "
        "A result of Kubeflow Pipelines is loaded only if its file has the digest that the run recorded. "
        "With --json: type, repr, path, and the value itself if it can be converted to JSON."
    )
    name = "result"
    cmd_options = (CLUSTER_OPTION, JSON_OPTION, TRUST_OPTION)
    least, most = 1, 2

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Print the result; return the exit code."""
        name, *run = names
        if options["cluster"] or run:
            from fftasks.pipeline.download import Verifier

            verifier = Verifier(project, trust=options["trust"])
            file, path, facts = _find_on_cluster(project, name, "".join(run), verifier)
        else:
            file, path, facts = _find_here(project, name)
        if not options["as_json"]:
            return show_artifact(project, file, path)
        shown = _show_in_process(project, file, path, "--json", stdout=subprocess.PIPE)
        if shown.returncode == 0:
            print_json({"node": name, **facts, "artifact": str(path), **json.loads(shown.stdout)})
        return shown.returncode


def show_artifact(project: Project, file: str, path: Path) -> int:
    """Print repr() of an artifact in a process that can import the user's modules; return the exit code.

    Args:
        project: Project of the node.
        file: Workflow file, relative to the project folder.
        path: The artifact.
    """
    sys.stdout.flush()
    return _show_in_process(project, file, path).returncode


def _show_in_process(
    project: Project, file: str, path: Path, *more: str, stdout: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [*make_command(RUNNER_MODULE), "--root", str(project.root)]
    command += ["--file", file, "--show", str(path), *more]
    return subprocess.run(command, cwd=project.root, check=False, stdout=stdout)


def _find_on_cluster(
    project: Project, name: str, wanted: str, verifier: Verifier
) -> tuple[str, Path, dict[str, Any]]:
    """Return the workflow file, the file with the result, and further facts for --json."""
    own = list_get_var_names(project.root / "dodo.py")
    given = [name for name in project.given if name not in own]
    if given:  # the result of other values would be shown as the result of these
        raise InvalidCommand(
            f"{', '.join(given)}: results on Kubeflow Pipelines are selected by run, not by run parameters;"
            " `doit runs` lists the runs"
        )
    from fftasks.pipeline.download import download_result
    from fftasks.report.run_status import resolve_run

    run = resolve_run(project, wanted)
    file = run.find_file(run.find_task(name))
    return file, download_result(project, run, name, verifier), {"run_id": run.run_id}


def _find_here(project: Project, name: str) -> tuple[str, Path, dict[str, Any]]:
    """Return the same for the last local result, or for the result with the given run parameters."""
    label = parse_node_name(project, name)
    graph, slug = project.nodes[label].graph, project.nodes[label].content["slug"]
    if any(parameter in project.given for parameter in project.parameters):
        digest, is_current = _look_up_result(project, label), True
        path, pages = project.store.artifact_path(digest), project.store.list_pages(slug, digest)
    else:
        path, pages = find_result_file(project.store, label, slug), project.list_pages(label)
        is_current = is_node_up_to_date(project, label)
    if not is_current:
        _warn_out_of_date(project, label)
    shown = [os.path.relpath(page) for page in pages]
    sys.stderr.write("".join(f"shown in {page}\n" for page in shown))
    return graph["file"], path, {"is_current": is_current, "shown_in": shown}


def _look_up_result(project: Project, label: str) -> str:
    """Return the digest of the result of a node for the given run parameters."""
    record = look_up_node(project, label)
    if record is not None:
        return str(record["output"])
    given = [f"{n}={text}" for n, text in project.given.items() if n in project.parameters]
    values = shlex.join(given)
    raise StoreError(f"{label!r} has no result yet for {values}", tip=f"doit run:{label} {values}")


def _warn_out_of_date(project: Project, label: str) -> None:
    chosen = format_parameters(list_differing_parameters(project, label))
    why = f"was computed with {' '.join(chosen)}" if chosen else "is out of date"
    sys.stderr.write(f"{label} {why}: `doit run:{label}` recomputes it\n")
