"""Run a graph on Kubeflow Pipelines: the drop-in for FunctionFuse's KFPWorkflow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fftasks.api.names import make_slug
from fftasks.api.node import Instance, Result, find_site
from fftasks.api.workflow_graph import NotRun, is_building
from fftasks.errors import StoreError, ToolError, WorkflowError
from fftasks.functionfuse.local import DropIn
from fftasks.records import read_record
from fftasks.state_folder import STATE_FOLDER

_CREDENTIALS = ("server", "username", "password")


class RunHandle(NamedTuple):
    """A run on Kubeflow Pipelines: its id, and the address of its page."""

    run_id: str
    url: str


class KFPWorkflow(DropIn):
    """Run a graph on Kubeflow Pipelines, through the stages of `doit submit`.

    baseimage, registry_credentials ({"server", "username", "password"}), kfp_host: what is given here beats
    config/; what is not comes from there.
    """

    kind = "kfp"

    def __init__(
        self,
        *nodes: Result | Instance,
        workflow_name: str,
        baseimage: str | None = None,
        registry_credentials: Mapping[str, str] | None = None,
        kfp_host: str | None = None,
        descendants: bool = True,
    ) -> None:
        super().__init__(*nodes, workflow_name=workflow_name, descendants=descendants)
        self.baseimage = baseimage
        self.registry_credentials: dict[str, str] = {}
        self.set_registry_credentials(registry_credentials or {})
        self.kfp_host = kfp_host

    def set_baseimage(self, baseimage: str) -> None:
        """Build upon this image."""
        self.baseimage = baseimage

    def set_registry_credentials(self, registry_credentials: Mapping[str, str]) -> None:
        """Push to this registry as this user: {"server", "username", "password"}.

        Raises WorkflowError for any other key.
        """
        unknown = [key for key in registry_credentials if key not in _CREDENTIALS]
        if unknown:
            raise WorkflowError(
                f"{find_site()}: registry_credentials has no {', '.join(map(repr, unknown))}",
                tip=f"its keys are {', '.join(_CREDENTIALS)}",
            )
        self.registry_credentials = dict(registry_credentials)

    def set_kfp_host(self, kfp_host: str) -> None:
        """Submit to the Kubeflow Pipelines at this address."""
        self.kfp_host = kfp_host

    def run(self, **parameters: Any) -> Any:
        """Take the graph through the stages, as far as something changed, and submit it.

        parameters: values of run parameters, by name

        Returns a handle with `run_id` and `url`. Raises WorkflowError if a container could not import the
        graph, ParameterError for a value that does not fit, and FFTasksError if a stage fails.
        """
        if is_building():
            return NotRun()
        values = self.choose_values(parameters)
        root = find_root(Path(self.site.file))
        file = Path(self.site.file).resolve().relative_to(root).as_posix()
        _check_importable(root, file, self)
        _run_stages(root, self._list_settings(file), self.name, values)
        record = read_record(root / STATE_FOLDER / "submit" / f"{make_slug(self.name)}.json")
        if record is None:
            raise StoreError(f"the record of the run of {self.name!r} is gone", tip="run again")
        return RunHandle(record["run_id"], record["url"])

    def _list_settings(self, file: str) -> dict[str, str]:
        """Return what beats config/, as environment variables: no argument list ever shows a password."""
        given = {
            "WORKFLOWS": json.dumps([file]),
            "IMAGE__BASE": self.baseimage,
            "KFP__HOST": self.kfp_host,
            "KFP__WATCH": "false",  # the caller gets the run at once, as in FunctionFuse
            **{f"REGISTRY__{key.upper()}": v for key, v in self.registry_credentials.items()},
        }
        return {f"FFTASKS_{name}": value for name, value in given.items() if value is not None}


def find_root(file: Path) -> Path:
    """Return the project's folder: the nearest above a file with config/default.yaml, else its own.

    The current folder counts, like in FunctionFuse, if the file is below it.
    """
    folder = file.resolve().parent
    for candidate in (folder, *folder.parents):
        if (candidate / "config" / "default.yaml").exists():
            return candidate
    here = Path.cwd().resolve()
    return here if folder.is_relative_to(here) else folder


def _check_importable(root: Path, file: str, workflow: KFPWorkflow) -> None:
    """Raise WorkflowError if a container that imports the file would not find the workflow."""
    from fftasks.graph.observed_inputs import GraphFile
    from fftasks.graph.record import load_graph

    try:
        workflows = load_graph(GraphFile(root, file, root / STATE_FOLDER))["workflows"]
        evidence = f"a container imports {file}, and this builds {', '.join(workflows) or 'none'}"
    except WorkflowError as error:
        workflows, evidence = {}, str(error)
    if workflow.name not in workflows or workflows[workflow.name]["line"] != workflow.site.line:
        raise WorkflowError(
            f"{workflow.site}: a container could not find workflow {workflow.name!r}",
            found=[evidence],
            tip="build the graph where the file is imported: at module level, or under "
            '`if __name__ == "__main__":`, and not inside a function that nobody calls there',
        )


def _run_stages(
    root: Path, settings: Mapping[str, str], workflow: str, values: Mapping[str, Any]
) -> None:
    """Submit a workflow, in a process of its own; raise ToolError if it fails."""
    import subprocess

    from fftasks.graph.run_parameters import format_parameters
    from fftasks.project import format_task_name
    from fftasks.runner.start import make_command

    task = f"submit:{format_task_name(workflow)}"
    command = [*make_command("fftasks.tasks"), task, *format_parameters(values)]
    completed = subprocess.run(command, cwd=root, env={**os.environ, **settings}, check=False)
    if completed.returncode:
        raise ToolError(f"{task} failed with exit code {completed.returncode}", tip="see above")
