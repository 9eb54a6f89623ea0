"""`doit run`: doit's own for tasks and nodes; when all have ended: room on the disk, a run to follow."""

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
from fftasks.pipeline.stages import SENT_STAGES, find_last_stage
from fftasks.terminal import guarded_output

_KEEP = {
    "name": "keep", "short": "", "long": "keep", "type": str, "default": "",
    "help": "when it has ended, remove the least recently used results until this much is left, such as 5GB;"
    " what is up to date stays",
}  # fmt: skip
_GROUPS = make_flag(
    "groups",
    "run all workflows here as the cluster would: nodes that share a pod in one process tree",
)


class RunCommand(CommandWithHelp, cmd_run.Run):  # type: ignore[misc]
    """Run tasks; then remove results that no node has any more, and follow what was submitted."""

    name = "run"
    cmd_options = (*cmd_run.Run.cmd_options, _KEEP, _GROUPS)
    goal = ""  # the stage that tasks are run for, if it is none of them

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Run doit's own command; return its exit code, or that of what came afterwards."""
        try:
            if params["groups"]:
                return self._run_groups(params)
            keep_bytes = _parse_keep_size(params["keep"])
            code = int(super().execute(params, args))  # it goes to the folder of dodo.py
            if keep_bytes is not None:
                _remove_unused_results(keep_bytes)
            with guarded_output():
                return code or _follow_runs(self.control)
        except FFTasksError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code

    def print_help(self, words: list[str]) -> None:
        """Print the usage of the task that --help stood behind, or of this command."""
        names = set()
        if self.sel_tasks:  # else doit has not come to the options of tasks, nor to dodo.py
            self.task_list = self.loader.load_tasks(cmd=self, pos_args=[])
            names = {task.name for task in self.task_list}
        task = next((word for word in reversed(words) if word in names), None)
        if task is None:
            super().print_help(words)
        else:
            Help._execute(self, [task])  # all that it reads of itself is the list of tasks

    def _run_groups(self, params: dict[str, Any]) -> int:
        from fftasks.pipeline.simulated_run import simulate_run
        from fftasks.project import open_current

        self.loader.setup(params)  # it goes to the folder of dodo.py
        project = open_current()
        with guarded_output():
            for workflow in project.workflows:
                simulate_run(project, workflow)
        return 0

    @functools.wraps(cmd_run.Run._execute)  # doit looks at its signature
    def _execute(self, **params: Any) -> int:
        """Run the tasks of dodo.py, which has been loaded."""
        if "fftasks.tasks" not in sys.modules:  # somebody's dodo.py who only has fftasks installed
            return int(super()._execute(**params))
        from fftasks.tasks.dispatcher import ParallelRunner, SequentialRunner

        # doit has no place where a runner could be given
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
    """Take the name of a node for its task; what is a task or a target already stays that."""

    def __init__(self, goal: str, commands: Sequence[str], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._goal, self._commands = goal, commands

    def process(self, task_selection: list[str] | None) -> None:
        """Select the tasks, and note what the image is built and pushed for, if it is."""
        super().process(task_selection)
        stages = {meta.get("stage", "") for meta in _list_metas(self)} | {self._goal}
        if not stages.isdisjoint(SENT_STAGES):
            from fftasks.pipeline.secret_check import check_secrets
            from fftasks.project import open_current

            check_secrets(open_current())
        for stage in {"image", "push"} & self.tasks.keys():
            _get_meta(self.tasks[stage])["goal"] = find_last_stage(stages)

    def _process_filter(self, task_selection: list[str]) -> list[str]:
        """Return the names that are selected, which have no options behind them any more."""
        return [self._find_task(name) for name in super()._process_filter(task_selection)]

    def _filter_tasks(self, task_selection: list[str]) -> list[str]:
        """Return the tasks that are selected; raise InvalidCommand with the nearest name for none."""
        try:
            return list(super()._filter_tasks(task_selection))
        except InvalidCommand as error:
            if error.not_found is None:
                raise
            name, known = error.not_found, (*self._name_nodes(), *self.tasks, *self._commands)
            hint = suggest_name(name, known) or LIST_HINT
            raise InvalidCommand(f"there is no command, task or node {name!r}; {hint}") from None

    def _find_task(self, name: str) -> str:
        is_known = name in self.tasks or name in self.targets
        return name if is_known else self._name_nodes().get(name, name)

    def _name_nodes(self) -> dict[str, str]:
        """Return the task of each node, by the node's name and by how doit spells it."""
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
    from fftasks.project import STATE_FOLDER_NAME

    print(remove_unused(Path(STATE_FOLDER_NAME), keep_bytes))


def _get_meta(task: Task) -> dict[str, Any]:
    """Return what is ours of a task; empty for a task of somebody else."""
    found: dict[str, Any] = (task.meta or {}).get("fftasks", {})
    return found


def _list_metas(control: TaskControl) -> list[dict[str, Any]]:
    """Return what is ours of the selected tasks, and of those in groups that are selected."""
    names = list(control.selected_tasks)
    for name in names:
        names += control.tasks[name].task_dep if control.tasks[name].has_subtask else ()
    return [_get_meta(control.tasks[name]) for name in names]


def _follow_runs(control: TaskControl) -> int:
    """Follow the runs of the selected tasks that say so."""
    workflows = [meta["workflow"] for meta in _list_metas(control) if meta.get("watch")]
    if not workflows:
        return 0
    from fftasks.project import open_current
    from fftasks.records import read_record
    from fftasks.report.polling import watch_runs

    project = open_current()
    records = [read_record(project.record_path("submit", name)) for name in workflows]
    return watch_runs(project, [record["run_id"] for record in records if record])
