"""`doit result NAME [RUN]`: print a node's result, from here or from the cluster."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from doit.exceptions import InvalidCommand

from fftasks.commands.usage import WithHelp
from fftasks.errors import FFTasksError, StoreError
from fftasks.project import Project, open_current
from fftasks.results import find_artifact
from fftasks.tasks import read_label
from fftasks.values import format_values

_CLUSTER = {
    "name": "cluster", "short": "c", "long": "cluster", "type": bool, "default": False,
    "help": "of the run on Kubeflow Pipelines that was submitted last",
}  # fmt: skip


class Result(WithHelp):
    """Print the repr of a node's result and nothing else; a word on stderr if it is out of date."""

    doc_purpose = "print the result of a node"
    doc_usage = "NAME [RUN]"
    doc_description = (
        "Prints repr() of the value that the last run of the node gave here; with RUN (an id, the "
        "beginning of one, or a name) or --cluster, the value that it gave on Kubeflow Pipelines."
    )
    name = "result"
    cmd_options = (_CLUSTER,)

    def _execute(self, pos_args: list[str], cluster: bool) -> int:  # noqa: FBT001 - doit passes it
        # doit's own parser stops at the first name
        flags = {"-c", "--cluster"}.intersection(pos_args)
        name, *run = [arg for arg in pos_args if arg not in flags] or [""]
        if not name or len(run) > 1:
            raise InvalidCommand(
                "doit result takes the name of one node, such as `doit result node1`, and a run if it is"
                " to be one of Kubeflow Pipelines"
            )
        if run and run[0].startswith("-"):
            raise InvalidCommand(f"there is no option {run[0]} here; there are: --cluster, --help")
        try:
            if cluster or flags or run:
                return _show_of_cluster(open_current(), name, "".join(run))
            return _show(open_current(), name)
        except FFTasksError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        finally:
            self.dep_manager.close()


def show_artifact(project: Project, file: str, path: Path) -> int:
    """Print the repr of an artifact, read where the user's modules are; return the exit code.

    file: the one that builds the workflow
    """
    command = [sys.executable, "-m", "fftasks.runtime", "--root", str(project.root)]
    command += ["--file", file, "--show", str(path)]
    sys.stdout.flush()
    return subprocess.run(command, cwd=project.root, check=False).returncode


def _show_of_cluster(project: Project, name: str, wanted: str) -> int:
    if project.given:  # else the result of other values would be taken for that of these
        raise InvalidCommand(
            f"{', '.join(project.given)}: a result on Kubeflow Pipelines is of a run, not of values;"
            " name the run, `doit runs` lists them"
        )
    from fftasks.cluster.bring import bring_result
    from fftasks.cluster.choose import find_run

    run = find_run(project, wanted)
    file = run.find_file(run.find_task(name))
    return show_artifact(project, file, bring_result(project, run, name))


def _show(project: Project, name: str) -> int:
    label = read_label(project, name)
    node = project.nodes[label]
    path = _find(project, label)
    return show_artifact(project, node.graph["file"], path)


def _find(project: Project, label: str) -> Path:
    """Return the file of a node's result: what its last run left, or what it is for the values given."""
    given = {n: text for n, text in project.given.items() if n in project.parameters}
    if given:
        record = project.recall_node(label)
        if record is not None:
            return project.store.artifact_path(record["output"])
        values = " ".join(shlex.quote(f"{name}={text}") for name, text in given.items())
        raise StoreError(
            f"{label!r} has no result yet for {values}", tip=f"doit run:{label} {values}"
        )
    path = find_artifact(project.store, label, project.nodes[label].content["slug"])
    if not project.is_current(label):
        chosen = format_values(project.list_chosen(label))
        why = f"was made with {' '.join(chosen)}" if chosen else "is out of date"
        sys.stderr.write(f"{label} {why}: `doit run:{label}` makes it anew\n")
    for page in project.list_pages(label):
        sys.stderr.write(f"shown in {os.path.relpath(page)}\n")
    return path
