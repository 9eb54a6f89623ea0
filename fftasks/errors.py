"""Define the errors that users see: one class per kind of fix.

    FFTasksError
    ├── SettingsError     fix a file in config/ or an environment variable
    ├── WorkflowError     fix the file that builds the workflow
    ├── ParameterError    give a run parameter another value
    ├── NodeError         fix the function of a node
    ├── ToolError         look at an outside tool: engine, registry, Kubeflow Pipelines
    └── StoreError        look at `.fftasks` and its disk

Any other exception is a bug of fftasks and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class FFTasksError(Exception):
    """An error with a suggested fix.

    Attributes:
        attempted: What failed, such as "image: docker build failed for base python:3.11".
        found: Lines of evidence, shown indented below.
        tip: One sentence that suggests the fix.
        exit_code: Exit code of the command that fails with this error.
    """

    exit_code = 1

    def __init__(self, attempted: str, *, found: Sequence[str] = (), tip: str = "") -> None:
        super().__init__(attempted)
        self.attempted = attempted
        self.found = tuple(found)
        self.tip = tip

    def __str__(self) -> str:
        """Return the message for display; control characters in text from other programs are escaped."""
        lines = [
            self.attempted,
            *(f"  {line}" for text in self.found for line in text.splitlines()),
        ]
        if self.tip:
            lines.append("  hint: " + self.tip.replace("\n", "\n        "))
        return escape_controls("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        # The default pickles only args, but errors are sent between processes with all attributes.
        return _rebuild, (type(self), self.attempted, self.found, self.tip)


def _rebuild(
    kind: type[FFTasksError], attempted: str, found: Sequence[str], tip: str
) -> FFTasksError:
    return kind(attempted, found=found, tip=tip)


class SettingsError(FFTasksError):
    """Fix a file in config/, or the environment variable that overrides it."""

    exit_code = 3


class WorkflowError(FFTasksError):
    """Fix the file that builds the workflow."""

    exit_code = 3


class ParameterError(FFTasksError):
    """Give a run parameter another value, on the command line, in a call of run() or in the KFP web UI."""

    exit_code = 3


class NodeError(FFTasksError):
    """Fix the function of a node: it raised, exited, or returned a value that cannot be stored."""


class ToolError(FFTasksError):
    """Look at an outside tool: the container engine, the registry, Kubeflow Pipelines."""


class StoreError(FFTasksError):
    """Look at `.fftasks` and the disk that contains it."""


def escape_controls(text: str) -> str:
    r"""Return text with its control characters escaped, so that a terminal does not execute them.

    Escaped are the control characters of ASCII and Latin-1 except tab and line feed, bidirectional
    formatting marks, line and paragraph separators, and lone surrogates. A Windows line ending (CRLF)
    becomes one line feed.

    Args:
        text: "a\x1b[2Jb"

    Returns:
        "a\\x1b[2Jb"
    """
    if text.isprintable():
        return text
    return text.replace("\r\n", "\n").translate(_ESCAPES)


_CONTROLS = (
    *(n for n in range(0x20) if n not in (0x09, 0x0A)), *range(0x7F, 0xA0),
    0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),
)  # fmt: skip
_ESCAPES = {number: ascii(chr(number))[1:-1] for number in _CONTROLS}


def suggest_name(name: str, names: Iterable[str]) -> str:
    """Return a hint with the nearest existing name, such as "did you mean 'sums'?"; "" if none is near."""
    near = find_near(name, names)
    return f"did you mean {near!r}?" if near else ""


def suggest_or_list(name: str, names: Iterable[str], kind: str) -> str:
    """Return a hint for a name that was not found: the nearest name, or all names.

    Args:
        name: The name that was not found.
        names: The existing names.
        kind: Plural of what has these names, such as "nodes".

    Returns:
        "did you mean 'sums'?" or "nodes: load, sums".
    """
    known = list(names)
    return suggest_name(name, known) or f"{kind}: {', '.join(known) or 'none'}"


def find_near(word: str, words: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return the most similar of some words to a mistyped word; "" if none is similar.

    Args:
        word: The mistyped word.
        words: The existing words.
        cutoff: Minimum similarity from 0 to 1; see difflib.get_close_matches.
    """
    import difflib  # takes a millisecond to import

    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=cutoff)), "")
