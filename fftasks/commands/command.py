"""What our commands share: no task is made, and options may stand behind names.

Those about runs on a cluster make no graph either: a workflow's file that cannot be imported right now must
not keep anybody from canceling a run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from doit.exceptions import InvalidCommand

from fftasks.commands.usage import WithHelp, make_flag
from fftasks.errors import FFTasksError
from fftasks.project import Project, open_current
from fftasks.terminal import guarded_output

JSON = make_flag("json", "print JSON, for tools", name="as_json")
CLUSTER = make_flag(
    "cluster", "the run on Kubeflow Pipelines that was submitted last, or RUN there", short="c"
)
CHOOSE_OUTPUT = "write to another file with `-o FILE`"


class Command(WithHelp):
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


class ClusterCommand(Command):
    """A command about a run on the cluster."""

    doc_description = (
        "RUN: an id, the beginning of one, or a name; the run that was submitted last by default."
    )
