"""States that people see, of nodes, stages and runs: a word, a sign and a colour each.

The sign says what the colour says, for those who see no colour, and for terminals and prints without.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskState:
    """How a state is shown.

    sign: one character; plain: the same for a stream that cannot have it
    ansi: the colour in a terminal, as the number of SGR; colour: on paper and on pages, light and dark
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
