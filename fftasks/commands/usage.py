"""The usage of commands: their flags, what `doit COMMAND --help` prints, and what a wrong option gets."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand

from fftasks.errors import suggest_name

WHERE_TO_LOOK = "`doit list --all` and `doit help` show them"
_HELP = frozenset({"-h", "--help"})
_WRONG_VALUE = re.compile(r"Error parsing parameter '(\S+)' <class '(\w+)'>\.\n.*: ('.*')")
_KINDS = {"int": "a whole number", "float": "a number"}


def make_flag(long: str, says: str, *, short: str = "", name: str = "") -> dict[str, Any]:
    """Return an option that is given or not, as doit has options.

    long, short: without dashes; name: that of the value, if it is not the long one
    """
    of_doit = {"type": bool, "default": False, "help": says}
    return {"name": name or long, "short": short, "long": long, **of_doit}


class WithHelp(DoitCmdBase):  # type: ignore[misc]
    """A command with --help; doit is asked first, for a task may have one of its own."""

    def parse_execute(self, in_args: list[str]) -> int:
        """Run the command, or print its usage; return the exit code."""
        try:
            return int(super().parse_execute(in_args))
        except CmdParseError as error:
            number = next((n for n, word in enumerate(in_args) if word in _HELP), None)
            if number is None:
                self._refuse_value(error)
                own = [option["long"] for option in self.cmd_options if option.get("long")]
                _refuse(error, own)
            self.print_help(in_args[:number])
            return 0

    def _refuse_value(self, error: CmdParseError) -> None:
        """Raise the error, if it is about a value, with the option as it is typed and what it must be."""
        wrong = _WRONG_VALUE.match(str(error))
        if wrong:
            name, kind, given = wrong.groups()
            longs = {option.name: option.long for option in self.cmdparser.options}
            must = f"it must be {_KINDS.get(kind, kind)}"
            raise InvalidCommand(
                f"--{longs.get(name) or name} was given {given}; {must}"
            ) from error

    def print_help(self, words: list[str]) -> None:  # noqa: ARG002 - the run command reads them
        """Print the usage; words: what stood before --help."""
        sys.stdout.write(f"{self.help()}\n")  # in one piece, as with `| head`: nobody may read on


def _refuse(error: CmdParseError, own: Sequence[str]) -> NoReturn:
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
