"""`doit list`: doit's own, and on a terminal where the commands are listed, which are no tasks.

`doit help`: all commands, and first of all those about workflows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from doit import cmd_help, cmd_list
from doit.exceptions import InvalidCommand

from fftasks.cli.command import LIST_HINT
from fftasks.errors import suggest_name
from fftasks.terminal import guarded_output


class ListCommand(cmd_list.List):  # type: ignore[misc]
    """List the tasks."""

    name = "list"

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Run doit's own command; return its exit code."""
        with guarded_output():
            self.outstream = sys.stdout  # doit has already stored the old sys.stdout
            code = int(super().execute(params, args))
        isatty = getattr(self.outstream, "isatty", bool)
        if isatty() and not (params["quiet"] or params["template"]):
            self.outstream.write(
                "\n`doit help` lists the commands: plan, result, status, logs, ...\n"
            )
        return code


# task or command -> what it is for, where its own sentence does not say it here
_PURPOSES = {
    "run": "run all nodes here, or those that are named",
    "submit": "run the workflows on Kubeflow Pipelines (a task; `doit list` shows all tasks)",
    "result": "print the result of a node; with --cluster, that on Kubeflow Pipelines",
}
_COMMAND_GROUPS = {
    "Workflows here": ("run", "plan", "result", "accept", "graph", "report", "board"),
    "Workflows on Kubeflow Pipelines": (
        *("doctor", "submit", "status", "runs", "logs", "result"),
        *("replay", "cancel", "upload", "schedule"),
    ),
}
_HELP_TOPICS = {
    "help <command>": "show what a command takes",
    "help <task>": "show what a task takes",
    "help task": "show how to write a task",
}


class HelpCommand(cmd_help.Help):  # type: ignore[misc]
    """Show help: all commands, or one command or task."""

    doc_usage = "[COMMAND or TASK]"
    name = "help"
    cmd_options = ()

    def execute(self, params: Mapping[str, Any], args: list[str]) -> int:
        """Show the help that is asked for; return the exit code."""
        if len(args) == 1 and args[0] in self.cmds:
            command = self.cmds[args[0]](cmds=self._cmds, **self.init_kwargs)
            sys.stdout.write(f"{command.help()}\n")  # in one piece, as below
            return 0
        return int(super().execute(params, args))

    def print_usage(self, cmds: Mapping[str, Any]) -> None:
        """Print all commands in groups, and where to read on."""
        said = {name: command.doc_purpose for name, command in cmds.items()} | _PURPOSES
        grouped = {name for names in _COMMAND_GROUPS.values() for name in names}
        groups = {
            **_COMMAND_GROUPS,
            "Of doit itself, https://pydoit.org": sorted(cmds.keys() - grouped),
        }
        parts = [_format_group(title, names, said) for title, names in groups.items()]
        # at once, with its end: who reads only the first lines closes the pipe
        sys.stdout.write(
            "\n\n".join([*parts, _format_group("More", _HELP_TOPICS, _HELP_TOPICS)]) + "\n"
        )

    def _execute(self, pos_args: list[str]) -> bool:
        """Show help on a task; raise InvalidCommand with the nearest name if there is none."""
        if not super()._execute(pos_args):
            names = (*(task.name for task in self.task_list), *self.cmds)
            hint = suggest_name(pos_args[0], names) or LIST_HINT
            raise InvalidCommand(f"there is no command or task {pos_args[0]!r}; {hint}")
        return True


def _format_group(title: str, names: Iterable[str], said: Mapping[str, str]) -> str:
    return "\n".join([title, *(f"  doit {name:16}  {said[name]}" for name in names)])
