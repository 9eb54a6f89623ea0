"""Generate the reference pages from docstrings, settings and commands."""

import dataclasses
import inspect
import json
from importlib.metadata import entry_points

import fftasks
from fftasks import tasks
from fftasks.project import NEEDS
from fftasks.settings import NodeSettings
from fftasks.settings.tree import RULES, SECTIONS


def make_settings():
    """Return tables of all settings."""
    lines = [*_make_table({k: r for k, r in RULES.items() if "." not in k})]
    for section, kind in SECTIONS.items():
        rules = {k: r for k, r in RULES.items() if k.startswith(f"{section}.")}
        lines += ["", f"## {section}", "", kind.__doc__.splitlines()[0], "", *_make_table(rules)]
    rules = {
        leaf.name: leaf.metadata["rule"]
        for leaf in dataclasses.fields(NodeSettings)
        if "rule" in leaf.metadata
    }
    text = (
        "Settings of single nodes, below `__default__` or a pattern of node names; see "
        "[Configure single nodes](../how-to/settings-of-nodes.md)."
    )
    lines += ["", "## nodes", "", text, "", *_make_table(rules)]
    return "\n".join(lines)


def _make_table(rules):
    yield "| setting | default | description |"
    yield "|---|---|---|"
    for key, rule in rules.items():
        default = json.dumps(rule.default, default=list)
        yield f"| `{key}` | `{default}` | {_escape(rule.says)} |"


def make_commands():
    """Return the tasks, and the commands that fftasks adds to doit."""
    lines = ["## Tasks", "", "| task | what it does |", "|---|---|"]
    for name in ("nodes", *NEEDS):
        create = getattr(tasks, f"task_{name}", None)  # some stages have no task of their own
        if create is None:
            continue
        said = create.__doc__.splitlines()[0]
        lines.append(f"| `doit {'run' if name == 'nodes' else name}` | {_escape(said)} |")
    lines += ["", "## Commands", ""]
    for entry in sorted(entry_points(group="doit.COMMAND"), key=lambda entry: entry.name):
        if entry.value.startswith("fftasks."):
            lines += _describe_command(entry.load())
    return "\n".join(lines)


def _describe_command(command):
    usage = f"doit {command.name} {command.doc_usage or ''}".strip()
    yield from (f"### {command.name}", "", f"    {usage}", "", _escape(inspect.getdoc(command)), "")
    if command.doc_description:
        yield from (_escape(" ".join(command.doc_description.split())), "")
    own = [option for option in command.cmd_options if option["name"] not in _of_doit()]
    if own:
        yield from ("| option | what it does |", "|---|---|")
    for option in own:
        names = [f"`-{option['short']}`"] if option.get("short") else []
        names += [f"`--{option['long']}`"] if option.get("long") else []
        yield f"| {', '.join(names)} | {_escape(option.get('help', ''))} |"
    yield ""


def _of_doit():
    from doit.cmd_run import Run

    return {option["name"] for option in Run.cmd_options}


def make_python():
    """Return the public names with their signatures and docstrings."""
    lines = []
    for name in fftasks.__all__:
        value = getattr(fftasks, name)
        try:
            signature = str(inspect.signature(value))
        except (TypeError, ValueError):
            signature = "(...)"
        lines += [
            f"## {name}",
            "",
            "```text",
            f"{name}{signature}",
            "",
            inspect.getdoc(value),
            "```",
            "",
        ]
    return "\n".join(lines)


def _escape(text):
    """Escape a text for a cell of a Markdown table."""
    for sign in "\\`*_{}[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


PARTS = {"settings": make_settings, "commands": make_commands, "python": make_python}
