"""Base classes of the commands: --help, errors about options, and options after names.

These commands do not create tasks. Commands about runs on Kubeflow Pipelines do not create graphs either, so
that a run can be canceled while a workflow file cannot be imported.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand

from fftasks.errors import FFTasksError, suggest_name
from fftasks.terminal import guarded_output

if TYPE_CHECKING:
    from fftasks.project import Project

LIST_HINT = "`doit list --all` and `doit help` show them"
_HELP_FLAGS = frozenset({"-h", "--help"})
_INVALID_VALUE = re.compile(r"Error parsing parameter '(\S+)' <class '(\w+)'>\.\n.*: ('.*')")
_INVALID_CHOICE = re.compile(
    r"Error parsing parameter '(\S+)'\. Provided (.*) but available choices are: (.*)\."
)
_TYPE_NAMES = {"int": "an integer", "float": "a number"}


def make_flag(long: str, says: str, *, short: str = "", name: str = "") -> dict[str, Any]:
    """Return a Boolean option in the format of doit, with the default False.

    Args:
        long: Long option, without dashes.
        says: Help text.
        short: Short option, one letter without a dash; "" for none.
        name: Key of the value in the options of the command (default: long).
    """
    doit_keys = {"type": bool, "default": False, "help": says}
    return {"name": name or long, "short": short, "long": long, **doit_keys}


class CommandWithHelp(DoitCmdBase):  # type: ignore[misc]
    """A command that accepts --help. doit parses first, because a task may define an option --help."""

    def parse_execute(self, in_args: list[str]) -> int:
        """Run the command, or print its help; return the exit code.

        Args:
            in_args: Command line after the name of the command.

        Raises:
            InvalidCommand: An option is unknown or has an invalid value. The message does not contain the
                representation of doit's objects, as the message of doit does.
        """
        try:
            return int(super().parse_execute(in_args))
        except CmdParseError as error:
            number = next((n for n, word in enumerate(in_args) if word in _HELP_FLAGS), None)
            if number is not None:
                self.print_help(in_args[:number])
                return 0
            text = str(error)
            if invalid := _INVALID_VALUE.match(text):
                name, kind, given = invalid.groups()
                longs = {option.name: option.long for option in self.cmdparser.options}
                expected = _TYPE_NAMES.get(kind, kind)
                raise InvalidCommand(
                    f"invalid value {given} of --{longs.get(name) or name}; it must be {expected}"
                ) from error
            if choice := _INVALID_CHOICE.match(text):
                name, given = choice[1], choice[2]
                choices = choice[3].replace("'", "")
                raise InvalidCommand(
                    f"invalid value {given} of --{name}; choices: {choices}"
                ) from error
            unknown = re.search(r"option (\S+) not recognized", text)
            if unknown is None:
                raise
            # doit's own options are offered as a correction, but only those of this command are listed
            own = [option["long"] for option in self.cmd_options if option.get("long")]
            known = [f"--{name}" for name in (*re.findall(r"'long':'([^']+)'", text), "help")]
            listed = ", ".join(f"--{name}" for name in (*own, "help"))
            hint = suggest_name(unknown[1], known) or f"options: {listed}"
            raise InvalidCommand(f"unknown option {unknown[1]}; {hint}") from error

    def print_help(self, words: list[str]) -> None:  # noqa: ARG002 - the run command reads them
        """Print the help of the command.

        Args:
            words: Command line before --help.
        """
        sys.stdout.write(f"{self.help()}\n")  # one write, because `| head` may close the pipe


JSON_OPTION = make_flag("json", "print JSON", name="as_json")
CLUSTER_OPTION = make_flag(
    "cluster",
    "use the run on Kubeflow Pipelines that was submitted last, or the run RUN there",
    short="c",
)
OUTPUT_HINT = "write to another file with `-o FILE`"


class ProjectCommand(CommandWithHelp):
    """A command about the project in the current folder.

    Attributes:
        least: Minimum number of names on the command line.
        most: Maximum number of names on the command line.
    """

    least, most = 0, 1

    def execute(self, params: Mapping[str, Any], args: list[str]) -> int:
        """Run the command in the folder of dodo.py; return the exit code."""
        self.loader.setup(params)
        options, names = self._split(dict(params), args)
        if not self.least <= len(names) <= self.most:
            usage = f"doit {self.name} {self.doc_usage}".rstrip()
            raise InvalidCommand(f"usage: {usage}; see `doit help {self.name}`")
        with guarded_output():
            return self._act(names, options)

    def _act(self, names: list[str], options: Mapping[str, Any]) -> int:
        from fftasks.project import open_current

        try:
            code = self.act(open_current(), names, options)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has ended, as in `doit runs | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except FFTasksError as error:
            sys.stdout.flush()
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        return code

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Execute the command and return its exit code.

        Args:
            project: Project in the current folder.
            names: Arguments that are not options.
            options: Values of the options, by name.
        """
        raise NotImplementedError

    def _split(self, options: dict[str, Any], words: list[str]) -> tuple[dict[str, Any], list[str]]:
        """Return options and names. Options may follow names, where doit's own parser stops."""
        names: list[str] = []
        parser = self.cmdparser
        while words:
            names.append(words[0])
            more, words = parser.parse(words[1:])
            options |= {name: more[name] for name in more._non_default_keys}
        return options, names


class ClusterCommand(ProjectCommand):
    """A command about a run on Kubeflow Pipelines."""

    doc_description = (
        "RUN: ID, prefix of an ID, or name of a run (default: the run that was submitted last)."
    )
