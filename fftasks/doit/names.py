"""Names of nodes on doit's command line."""

from __future__ import annotations

import re

from doit.exceptions import InvalidCommand

from fftasks.errors import suggest_name
from fftasks.project import Project

_SPECIAL = re.compile("[%=*]")


def name_task(label: str) -> str:
    """Return a node's name as doit takes it.

    Without "=", which makes a variable on its command line, and "*", which makes a pattern.
    """
    if not _SPECIAL.search(label):
        return label
    return _SPECIAL.sub(lambda match: f"%{ord(match[0]):02X}", label)


def find_label(project: Project, name: str) -> str | None:
    """Return the label of the node that is meant by a name on doit's command line."""
    if name in project.nodes:
        return name
    return next((label for label in project.nodes if name == name_task(label)), None)


def read_label(project: Project, name: str) -> str:
    """Return the label of the node that is meant; raise InvalidCommand with the nearest name if none is."""
    label = find_label(project, name)
    if label is None:
        hint = suggest_name(name, project.nodes) or f"nodes: {', '.join(project.nodes)}"
        raise InvalidCommand(f"there is no node {name!r}; {hint}")
    return label
