"""A page of the documentation as a list of steps: files to write, commands to type, scripts to run.

    ```{code-block} yaml         a file; later ones of the same name take its place
    :caption: config/default.yaml
    ```console                   lines with "$ " are typed; what stands below each must come out
    ```python                    a script, run in the folder of the moment
    ```text                      only to be looked at
    ```{image}, ```{toctree}     Sphinx's own

In what must come out, "..." stands for anything in a line, and for any lines where it is one. Times are
equal to any other; nodes may end in any order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

_SHOWN = ("text", "{image}", "{toctree}", "mermaid")


@dataclass
class Step:
    """What a block of code says; kind: "file", "console" or "python"; line: in the page, from 1."""

    kind: str
    text: str
    line: int
    name: str = ""


def read_steps(path: Path) -> list[Step]:
    """Return the steps of a page; raise ValueError for a block that is none."""
    steps = []
    for token in MarkdownIt("commonmark").parse(path.read_text()):
        line = (token.map or [0])[0] + 1
        if token.type == "code_block":
            raise ValueError(
                f"{path.name}:{line}: an indented block is run by nobody: say what it is"
            )
        if token.type == "fence" and token.info.strip().partition(" ")[0] not in _SHOWN:
            steps.append(_read_step(token.info.strip(), token.content, line, path))
    return steps


def _read_step(info: str, text: str, line: int, path: Path) -> Step:
    if info in ("console", "python"):
        return Step(info, text, line)
    caption = re.match(r":caption: (\S+)\n", text)
    if not info.startswith("{code-block}") or not caption:
        raise ValueError(f"{path.name}:{line}: nobody knows how to run {info!r}")
    return Step("file", text[caption.end() :], line, caption[1])


def list_commands(text: str) -> list[tuple[str, str]]:
    """Return each command of a console, and what must come out of it."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def is_as_told(told: str, output: str) -> bool:
    """Tell whether an output is what a page tells of it."""
    return _match(_order(told), _order(output))


def _order(text: str) -> list[str]:
    """Return the lines of a text, times as one, with those of nodes that ran in order."""
    lines = [re.sub(r"\d+\.\d+ s\b", "0.0 s", line.rstrip()) for line in text.splitlines()]
    ran = iter(sorted(line for line in lines if line.startswith(".  run:")))
    return [next(ran) if line.startswith(".  run:") else line for line in lines]


def _match(told: list[str], lines: list[str]) -> bool:
    pattern = ""
    for line in told:
        any_of_it = re.escape(line).replace(re.escape("..."), ".*")
        pattern += "(?:.*\n)*?" if line == "..." else f"{any_of_it}\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None
