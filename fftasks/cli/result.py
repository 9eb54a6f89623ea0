"""`doit result NAME [RUN]`: print a node's result, from here or from the cluster."""

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
from fftasks.cli.command import JSON_OPTION, ProjectCommand, make_flag
from fftasks.errors import StoreError
from fftasks.graph.run_parameters import format_parameters, list_get_var_names
from fftasks.project import Project
from fftasks.report.table import print_json
from fftasks.runner.start import MODULE, make_command
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
_CLUSTER = make_flag(
    "cluster", "of the run on Kubeflow Pipelines that was submitted last", short="c"
)


class ResultCommand(ProjectCommand):
    """Print the repr of a node's result and nothing else; a word on stderr if it is out of date."""

    doc_purpose = "print the result of a node"
    doc_usage = "NAME [RUN]"
    doc_description = (
        "Prints repr() of the value that the last run of the node gave here; with RUN (an id, the "
        "beginning of one, or a name) or --cluster, the value that it gave on Kubeflow Pipelines. "
        "A value of Kubeflow Pipelines is loaded only if its file has the digest that the run recorded. "
        "With --json: its type, its repr, where it is, and the value itself if JSON can hold it."
    )
    name = "result"
    cmd_options = (_CLUSTER, JSON_OPTION, TRUST_OPTION)
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
    """Print the repr of an artifact, read where the user's modules are; return the exit code.

    file: the one that builds the workflow
    """
    sys.stdout.flush()
    return _show_in_process(project, file, path).returncode


def _show_in_process(
    project: Project, file: str, path: Path, *more: str, stdout: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [*make_command(MODULE), "--root", str(project.root)]
    command += ["--file", file, "--show", str(path), *more]
    return subprocess.run(command, cwd=project.root, check=False, stdout=stdout)


def _find_on_cluster(
    project: Project, name: str, wanted: str, verifier: Verifier
) -> tuple[str, Path, dict[str, Any]]:
    """Return the file that builds the workflow, that with the result, and what else is known of it."""
    own = list_get_var_names(project.root / "dodo.py")
    given = [name for name in project.given if name not in own]
    if given:  # else the result of other values would be taken for that of these
        raise InvalidCommand(
            f"{', '.join(given)}: a result on Kubeflow Pipelines is of a run, not of values;"
            " name the run, `doit runs` lists them"
        )
    from fftasks.pipeline.download import download_result
    from fftasks.report.run_status import resolve_run

    run = resolve_run(project, wanted)
    file = run.find_file(run.find_task(name))
    return file, download_result(project, run, name, verifier), {"run_id": run.run_id}


def _find_here(project: Project, name: str) -> tuple[str, Path, dict[str, Any]]:
    """Return the same of what the node's last run left here, or of what it gave for the values given."""
    label = parse_node_name(project, name)
    graph, slug = project.nodes[label].graph, project.nodes[label].content["slug"]
    if any(parameter in project.given for parameter in project.parameters):
        digest, is_right = _look_up_result(project, label), True
        path, pages = project.store.artifact_path(digest), project.store.list_pages(slug, digest)
    else:
        path, pages = find_result_file(project.store, label, slug), project.list_pages(label)
        is_right = is_node_up_to_date(project, label)
    if not is_right:
        _warn_out_of_date(project, label)
    shown = [os.path.relpath(page) for page in pages]
    sys.stderr.write("".join(f"shown in {page}\n" for page in shown))
    return graph["file"], path, {"is_current": is_right, "shown_in": shown}


def _look_up_result(project: Project, label: str) -> str:
    """Return the digest of the result that a node has for the values given."""
    record = look_up_node(project, label)
    if record is not None:
        return str(record["output"])
    given = [f"{n}={text}" for n, text in project.given.items() if n in project.parameters]
    values = shlex.join(given)
    raise StoreError(f"{label!r} has no result yet for {values}", tip=f"doit run:{label} {values}")


def _warn_out_of_date(project: Project, label: str) -> None:
    chosen = format_parameters(list_differing_parameters(project, label))
    why = f"was made with {' '.join(chosen)}" if chosen else "is out of date"
    sys.stderr.write(f"{label} {why}: `doit run:{label}` makes it anew\n")
