"""`doit result NAME`: print a node's result."""

from __future__ import annotations

import difflib
import subprocess
import sys

from doit.cmd_base import DoitCmdBase
from doit.exceptions import InvalidCommand

from fftasks.errors import FFTasksError
from fftasks.project import Project, open_current
from fftasks.results import find_artifact
from fftasks.tasks import find_label


class Result(DoitCmdBase):  # type: ignore[misc]
    """Print the repr of a node's result and nothing else; a word on stderr if it is out of date."""

    doc_purpose = "print the result of a node"
    doc_usage = "NAME"
    doc_description = "Prints repr() of the value that the last run of the node gave."
    name = "result"
    cmd_options = ()

    def _execute(self, pos_args: list[str]) -> int:
        if len(pos_args) != 1:
            raise InvalidCommand(
                "doit result takes the name of one node, such as `doit result node1`"
            )
        try:
            return _show(open_current(), pos_args[0])
        except FFTasksError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        finally:
            self.dep_manager.close()


def _show(project: Project, name: str) -> int:
    label = find_label(project, name)
    if label is None:
        near = difflib.get_close_matches(name, project.nodes, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"nodes: {', '.join(project.nodes)}"
        raise InvalidCommand(f"there is no node {name!r}; {hint}")
    node = project.nodes[label]
    path = find_artifact(project.store, label, node.content["slug"])
    if not project.is_current(label):
        sys.stderr.write(f"{label} is out of date: `doit run:{label}` makes it anew\n")
    command = [sys.executable, "-m", "fftasks.runtime", "--root", str(project.root)]
    command += ["--file", node.graph["file"], "--show", str(path)]
    sys.stdout.flush()
    return subprocess.run(command, cwd=project.folder.parent, check=False).returncode
