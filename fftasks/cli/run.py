"""`doit run`: run tasks and nodes, then remove unused results and watch submitted runs."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doit import cmd_run
from doit.cmd_help import Help
from doit.control import TaskControl
from doit.exceptions import InvalidCommand
from doit.task import Task

from fftasks.cli.command import LIST_HINT, CommandWithHelp, make_flag
from fftasks.errors import FFTasksError, suggest_name
from fftasks.terminal import guarded_output

_KEEP = {
    "name": "keep", "short": "", "long": "keep", "type": str, "default": "",
    "metavar": "SIZE",
    "help": "after the run, remove the least recently used results until at most SIZE is left, such as 5GB;"
    " results that are up to date are kept",
}  # fmt: skip
_GROUPS = make_flag(
    "groups",
    "run the groups of nodes as on the cluster, each group in one process tree; results are not cached",
)


class RunCommand(CommandWithHelp, cmd_run.Run):  # type: ignore[misc]
    """Run tasks; then remove unused results (--keep) and watch the runs that were submitted.

    Attributes:
        goal: Stage for which the selected tasks run, if it is not one of them: commands that submit run the
            stages up to the pipeline only.
    """

    name = "run"
    cmd_options = (*cmd_run.Run.cmd_options, _KEEP, _GROUPS)
    goal = ""

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Run the tasks and return the exit code of doit, or else of the actions after the run."""
        try:
            if params["groups"]:
                return self._run_groups(params)
            keep_bytes = _parse_keep_size(params["keep"])
            code = int(super().execute(params, args))  # changes to the folder of dodo.py
            if keep_bytes is not None:
                _remove_unused_results(keep_bytes)
            with guarded_output():
                return code or _watch_runs(self.control)
        except FFTasksError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code

    def print_help(self, words: list[str]) -> None:
        """Print the help of the task before --help, or of this command."""
        names = set()
        if self.sel_tasks:  # otherwise the error occurred before doit loaded dodo.py
            self.task_list = self.loader.load_tasks(cmd=self, pos_args=[])
            names = {task.name for task in self.task_list}
        task = next((word for word in reversed(words) if word in names), None)
        if task is None:
            super().print_help(words)
        else:
            Help._execute(self, [task])  # it only uses self.task_list

    def _run_groups(self, params: dict[str, Any]) -> int:
        from fftasks.pipeline.simulated_run import simulate_run
        from fftasks.project import open_current

        self.loader.setup(params)  # changes to the folder of dodo.py
        project = open_current()
        with guarded_output():
            for workflow in project.workflows:
                simulate_run(project, workflow)
        return 0

    @functools.wraps(cmd_run.Run._execute)  # doit inspects the signature
    def _execute(self, **params: Any) -> int:
        """Run the tasks of dodo.py, with the runner of fftasks if any of them is a node or a stage."""
        if not any(_get_meta(task) for task in self.task_list):  # dodo.py does not use fftasks
            return int(super()._execute(**params))
        from fftasks.tasks.dispatcher import ParallelRunner, SequentialRunner

        # doit has no option for the class of the runner.
        own = cmd_run.MRunner, cmd_run.Runner, cmd_run.TaskControl
        control = functools.partial(_NodeTaskControl, self.goal, self.loader.cmd_names)
        cmd_run.MRunner, cmd_run.Runner, cmd_run.TaskControl = (
            ParallelRunner,
            SequentialRunner,
            control,
        )
        try:
            return int(super()._execute(**params))
        finally:
            cmd_run.MRunner, cmd_run.Runner, cmd_run.TaskControl = own


class _NodeTaskControl(TaskControl):  # type: ignore[misc]
    """Task selection that also accepts names of nodes; names of tasks and targets have precedence."""

    def __init__(self, goal: str, commands: Sequence[str], *args: Any, **options: Any) -> None:
        """Create the task control of doit.

        Args:
            goal: See RunCommand.goal.
            commands: Names of all commands, for hints about unknown names.
            args: Passed to doit.
            options: Passed to doit.
        """
        super().__init__(*args, **options)
        self._goal, self._commands = goal, commands

    def process(self, task_selection: list[str] | None) -> None:
        """Select the tasks, and store in the image and push tasks the stage for which they run."""
        super().process(task_selection)
        from fftasks.pipeline.stages import SENT_STAGES, find_last_stage

        stages = {meta.get("stage", "") for meta in _list_metas(self)} | {self._goal}
        if not stages.isdisjoint(SENT_STAGES):
            from fftasks.pipeline.secret_check import check_secrets
            from fftasks.project import open_current

            check_secrets(open_current())
        for stage in {"image", "push"} & self.tasks.keys():
            _get_meta(self.tasks[stage])["goal"] = find_last_stage(stages)

    def _process_filter(self, task_selection: list[str]) -> list[str]:
        """Return the selected names, without options of tasks."""
        return [self._find_task(name) for name in super()._process_filter(task_selection)]

    def _filter_tasks(self, task_selection: list[str]) -> list[str]:
        """Return the selected tasks; for an unknown name, raise InvalidCommand with the nearest name."""
        try:
            return list(super()._filter_tasks(task_selection))
        except InvalidCommand as error:
            if error.not_found is None:
                raise
            name, known = error.not_found, (*self._name_nodes(), *self.tasks, *self._commands)
            hint = suggest_name(name, known) or LIST_HINT
            raise InvalidCommand(f"unknown command, task or node {name!r}; {hint}") from None

    def _find_task(self, name: str) -> str:
        is_known = name in self.tasks or name in self.targets
        return name if is_known else self._name_nodes().get(name, name)

    def _name_nodes(self) -> dict[str, str]:
        """Return a mapping from the name of each node, and its spelling for doit, to its task."""
        nodes = {
            task: task_meta["node"]
            for task in self.tasks
            if "node" in (task_meta := _get_meta(self.tasks[task]))
        }
        spelled = {task.partition(":")[2]: task for task in nodes}
        return {**spelled, **{label: task for task, label in nodes.items()}}


def _parse_keep_size(text: str) -> int | None:
    if not text:
        return None
    from fftasks.config.sizes import parse_size

    return parse_size(text, "--keep")


def _remove_unused_results(keep_bytes: int) -> None:
    from fftasks.cache.store import remove_unused
    from fftasks.state_folder import STATE_FOLDER

    print(remove_unused(Path(STATE_FOLDER), keep_bytes))


def _get_meta(task: Task) -> dict[str, Any]:
    """Return the metadata of fftasks of a task; empty for a task of the user."""
    found: dict[str, Any] = (task.meta or {}).get("fftasks", {})
    return found


def _list_metas(control: TaskControl) -> list[dict[str, Any]]:
    """Return the metadata of the selected tasks and of the members of selected groups."""
    names = list(control.selected_tasks)
    for name in names:
        names += control.tasks[name].task_dep if control.tasks[name].has_subtask else ()
    return [_get_meta(control.tasks[name]) for name in names]


def _watch_runs(control: TaskControl) -> int:
    """Watch the runs of the selected submit tasks that ask for it; return the exit code."""
    workflows = [meta["workflow"] for meta in _list_metas(control) if meta.get("watch")]
    if not workflows:
        return 0
    from fftasks.project import open_current
    from fftasks.records import read_record
    from fftasks.report.polling import watch_runs

    project = open_current()
    records = [read_record(project.record_path("submit", name)) for name in workflows]
    return watch_runs(project, [record["run_id"] for record in records if record])
