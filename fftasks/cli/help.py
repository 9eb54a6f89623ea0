"""`doit list`, `doit help` and `doit dumpdb`: doit's own commands, adapted to fftasks."""

from __future__ import annotations

import dbm
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from doit import cmd_dumpdb, cmd_help, cmd_list
from doit.exceptions import InvalidCommand

from fftasks.cli.command import LIST_HINT, CommandWithHelp
from fftasks.errors import suggest_name
from fftasks.terminal import guarded_output


class ListCommand(CommandWithHelp, cmd_list.List):  # type: ignore[misc]
    """List the tasks; on a terminal, also point to the list of commands."""

    name = "list"

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Run doit's own command and return its exit code."""
        with guarded_output():
            self.outstream = sys.stdout  # doit has already stored the old sys.stdout
            code = int(super().execute(params, args))
        isatty = getattr(self.outstream, "isatty", bool)
        if isatty() and not (params["quiet"] or params["template"]):
            self.outstream.write(
                "\n`doit help` lists the commands: plan, result, status, logs, ...\n"
            )
        return code


# purposes of tasks, and of commands whose own purpose is incomplete in this list
_PURPOSES = {
    "run": "run all nodes on this machine, or the named nodes and tasks",
    "submit": "run the workflows on Kubeflow Pipelines (a task; `doit list` shows all tasks)",
    "result": "print the result of a node; with --cluster, of a run on Kubeflow Pipelines",
}
_COMMAND_GROUPS = {
    "Workflows on this machine": ("run", "plan", "result", "accept", "graph", "report", "board"),
    "Workflows on Kubeflow Pipelines": (
        *("doctor", "submit", "status", "runs", "logs", "result"),
        *("replay", "cancel", "upload", "schedule"),
    ),
}
_HELP_TOPICS = {
    "help <command>": "show the options of a command",
    "help <task>": "show the options of a task",
    "help task": "show how to write a task",
}


class HelpCommand(CommandWithHelp, cmd_help.Help):  # type: ignore[misc]
    """Show help: all commands, or one command or task."""

    doc_usage = "[COMMAND or TASK]"
    name = "help"
    cmd_options = ()

    def execute(self, params: Mapping[str, Any], args: list[str]) -> int:
        """Print the requested help and return the exit code."""
        if len(args) == 1 and args[0] in self.cmds:
            command = self.cmds[args[0]](cmds=self._cmds, **self.init_kwargs)
            sys.stdout.write(f"{command.help()}\n")  # one write, see print_usage
            return 0
        return int(super().execute(params, args))

    def print_usage(self, cmds: Mapping[str, Any]) -> None:
        """Print all commands in groups, and the other topics of help."""
        said = {name: command.doc_purpose for name, command in cmds.items()} | _PURPOSES
        grouped = {name for names in _COMMAND_GROUPS.values() for name in names}
        groups = {
            **_COMMAND_GROUPS,
            "Commands of doit, https://pydoit.org": sorted(cmds.keys() - grouped),
        }
        parts = [_format_group(title, names, said) for title, names in groups.items()]
        # One write: a reader such as `head` may close the pipe after the first lines.
        sys.stdout.write(
            "\n\n".join([*parts, _format_group("More", _HELP_TOPICS, _HELP_TOPICS)]) + "\n"
        )

    def _execute(self, pos_args: list[str]) -> bool:
        """Print help on a task; for an unknown name, raise InvalidCommand with the nearest name."""
        if not super()._execute(pos_args):
            names = (*(task.name for task in self.task_list), *self.cmds)
            hint = suggest_name(pos_args[0], names) or LIST_HINT
            raise InvalidCommand(f"unknown command or task {pos_args[0]!r}; {hint}")
        return True


class DumpDBCommand(cmd_dumpdb.DumpDB):  # type: ignore[misc]
    """Print the database of doit if it is in a dbm format, as in projects without fftasks."""

    name = "dumpdb"

    def execute(self, params: dict[str, Any], args: list[str]) -> None:
        """Print the database."""
        path = params["dep_file"]
        if not dbm.whichdb(path):
            raise InvalidCommand(
                f"dumpdb: {path!r} is not a database in dbm format;"
                " fftasks stores its state as JSON files in .fftasks/"
            )
        super().execute(params, args)


def _format_group(title: str, names: Iterable[str], said: Mapping[str, str]) -> str:
    return "\n".join([title, *(f"  doit {name:16}  {said[name]}" for name in names)])
