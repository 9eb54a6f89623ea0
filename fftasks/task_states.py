"""Define how the states of nodes, stages and runs are displayed: a word, a sign and a colour each.

Each state has its own sign, for readers and terminals that cannot distinguish colours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskState:
    """The display of a state.

    Attributes:
        word: Name of the state.
        sign: One character that stands before the name.
        plain: ASCII replacement of the sign, for streams with another encoding.
        ansi: Colour in a terminal: the number of an SGR sequence.
        colour: Colour in HTML pages and diagrams, readable on light and dark backgrounds.
    """

    word: str
    sign: str
    plain: str
    ansi: str
    colour: str


STATES = {
    state.word: state
    for state in (
        TaskState("up to date", "✓", "=", "32", "#2e7d32"),
        TaskState("will run", "▷", ">", "33", "#b26a00"),
        TaskState("waiting", "·", ".", "2", "#607080"),
        TaskState("running", "◔", "*", "36", "#0277bd"),
        TaskState("ran", "●", "+", "34", "#3949ab"),
        TaskState("cached", "◆", "c", "35", "#7b1fa2"),
        TaskState("failed", "✗", "!", "31", "#c62828"),
        TaskState("canceled", "⊘", "x", "33", "#8d6e63"),
        TaskState("skipped", "∅", "-", "2", "#607080"),
        TaskState("unknown", "?", "?", "33", "#5d4037"),
    )
}  # fmt: skip
