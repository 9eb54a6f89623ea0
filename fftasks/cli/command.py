"""The usage of commands: their flags, what `doit COMMAND --help` prints, and what a wrong option gets.

What our commands share: no task is made, and options may stand behind names.

Those about runs on a cluster make no graph either: a workflow's file that cannot be imported right now must
not keep anybody from canceling a run.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand

from fftasks.errors import FFTasksError, suggest_name
from fftasks.project import Project, open_current
from fftasks.terminal import guarded_output

LIST_HINT = "`doit list --all` and `doit help` show them"
_HELP_FLAGS = frozenset({"-h", "--help"})
_INVALID_VALUE = re.compile(r"Error parsing parameter '(\S+)' <class '(\w+)'>\.\n.*: ('.*')")
_TYPE_NAMES = {"int": "a whole number", "float": "a number"}


def make_flag(long: str, says: str, *, short: str = "", name: str = "") -> dict[str, Any]:
    """Return an option that is given or not, as doit has options.

    long, short: without dashes; name: that of the value, if it is not the long one
    """
    of_doit = {"type": bool, "default": False, "help": says}
    return {"name": name or long, "short": short, "long": long, **of_doit}


class CommandWithHelp(DoitCmdBase):  # type: ignore[misc]
    """A command with --help; doit is asked first, for a task may have one of its own."""

    def parse_execute(self, in_args: list[str]) -> int:
        """Run the command, or print its usage; return the exit code."""
        try:
            return int(super().parse_execute(in_args))
        except CmdParseError as error:
            number = next((n for n, word in enumerate(in_args) if word in _HELP_FLAGS), None)
            if number is None:
                self._refuse_value(error)
                own = [option["long"] for option in self.cmd_options if option.get("long")]
                _raise_option_error(error, own)
            self.print_help(in_args[:number])
            return 0

    def _refuse_value(self, error: CmdParseError) -> None:
        """Raise the error, if it is about a value, with the option as it is typed and what it must be."""
        wrong = _INVALID_VALUE.match(str(error))
        if wrong:
            name, kind, given = wrong.groups()
            longs = {option.name: option.long for option in self.cmdparser.options}
            must = f"it must be {_TYPE_NAMES.get(kind, kind)}"
            raise InvalidCommand(
                f"--{longs.get(name) or name} was given {given}; {must}"
            ) from error

    def print_help(self, words: list[str]) -> None:  # noqa: ARG002 - the run command reads them
        """Print the usage; words: what stood before --help."""
        sys.stdout.write(f"{self.help()}\n")  # in one piece, as with `| head`: nobody may read on


def _raise_option_error(error: CmdParseError, own: Sequence[str]) -> NoReturn:
    """Raise the error; about an option that there is not, without doit's objects in it.

    own: the options of the command itself, which all share those of doit
    """
    text = str(error)
    wrong = re.search(r"option (\S+) not recognized", text)
    if wrong is None:
        raise error
    known = [f"--{name}" for name in (*re.findall(r"'long':'([^']+)'", text), "help")]
    listed = ", ".join(f"--{name}" for name in (*own, "help"))
    hint = suggest_name(wrong[1], known) or f"there are: {listed}"
    raise InvalidCommand(f"there is no option {wrong[1]} here; {hint}") from error


JSON_OPTION = make_flag("json", "print JSON, for tools", name="as_json")
CLUSTER_OPTION = make_flag(
    "cluster", "the run on Kubeflow Pipelines that was submitted last, or RUN there", short="c"
)
OUTPUT_HINT = "write to another file with `-o FILE`"


class ProjectCommand(CommandWithHelp):
    """A command with up to `most` names and at least `least`."""

    least, most = 0, 1

    def execute(self, params: Mapping[str, Any], args: list[str]) -> int:
        """Run the command in the folder of dodo.py; return the exit code."""
        self.loader.setup(params)
        options, names = self._split(dict(params), args)
        if not self.least <= len(names) <= self.most:
            usage = f"doit {self.name} {self.doc_usage}".rstrip()
            raise InvalidCommand(f"usage: {usage}; `doit help {self.name}` says more")
        with guarded_output():
            return self._act(names, options)

    def _act(self, names: list[str], options: Mapping[str, Any]) -> int:
        try:
            code = self.act(open_current(), names, options)
            sys.stdout.flush()
        except BrokenPipeError:  # as with `doit runs | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except FFTasksError as error:
            sys.stdout.flush()
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        return code

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Do what the command does; return the exit code."""
        raise NotImplementedError

    def _split(self, options: dict[str, Any], words: list[str]) -> tuple[dict[str, Any], list[str]]:
        """Return options and names; doit's own parser stops at the first name."""
        names: list[str] = []
        parser = self.cmdparser
        while words:
            names.append(words[0])
            more, words = parser.parse(words[1:])
            options |= {name: more[name] for name in more._non_default_keys}
        return options, names


class ClusterCommand(ProjectCommand):
    """A command about a run on the cluster."""

    doc_description = (
        "RUN: an id, the beginning of one, or a name; the run that was submitted last by default."
    )
