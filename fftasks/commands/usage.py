"""What `doit COMMAND --help` prints: the usage, where doit would list options as objects."""

from __future__ import annotations

from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdParseError

_HELP = frozenset({"-h", "--help"})


class WithHelp(DoitCmdBase):  # type: ignore[misc]
    """A command with --help; doit is asked first, for a task may have one of its own."""

    def parse_execute(self, in_args: list[str]) -> int:
        """Run the command, or print its usage; return the exit code."""
        try:
            return int(super().parse_execute(in_args))
        except CmdParseError:
            number = next((n for n, word in enumerate(in_args) if word in _HELP), None)
            if number is None:
                raise
            self.print_help(in_args[:number])
            return 0

    def print_help(self, words: list[str]) -> None:  # noqa: ARG002 - the run command reads them
        """Print the usage; words: what stood before --help."""
        print(self.help())
