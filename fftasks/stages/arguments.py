"""Find secrets in the values of a user's program, and hide them where values are shown.

A secret is a string that matches a rule of secret_rules.py, or the known value of an environment variable or
setting that is a secret. The examiner searches values recursively; this table lists what it searches in each
type of value:

    type of value                   what is searched
    str                             the text
    bytes, bytearray                the bytes without NUL bytes, so that ASCII text in UTF-16 is found too
    list, tuple, set, dict, …       items and keys
    run parameter                   its default
    path                            its text
    enum                            its value
    functools.partial               the function and its arguments
    function                        defaults, and the variables of its closure
    method                          the object that it is bound to
    numpy array, pandas object      strings and objects in it
    any other object                its attributes; if it has none, the state that pickle would save
    module, class                   nothing, because they are code
"""

from __future__ import annotations

import copyreg
import functools
import json
import os
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import quote

from fftasks.constant import describe_constant
from fftasks.constant.arrays import take_apart
from fftasks.settings.secrets import list_secret_variables
from fftasks.stages.secret import HIDDEN, find_tokens, hide_tokens
from fftasks.workflow.parameter import Parameter
from fftasks.workflow.pending import Result

_PLAIN = frozenset({int, float, bool, complex, type(None), type(...), type, types.ModuleType})
_MOST = 200_000  # values in one argument; the rest of a larger argument is not searched
_LONGEST = 1_000_000  # characters of a text that are searched
_LONGEST_PLACE = 120
_BATCH = 1 << 16  # characters


# One step from a container to a value: a text, the index of an item, or a tuple with a key. Paths are
# formatted only for findings, for speed.
Step = str | int | tuple[Any]
Place = tuple[Any, ...]  # () or (place of the container, step)


class Found(NamedTuple):
    """A secret in a value.

    Attributes:
        place: Path to the secret in Python's syntax, appended to the value's name: `["auth"].token`.
        kind: Kind of the token, or the name of the variable or setting that has this value.
        text: The secret itself.
    """

    place: str
    kind: str
    text: str


class _Hidden:
    """Placeholder that is displayed instead of an object that contains a secret."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Examiner:
    """The examiner finds secrets in values, and hides them.

    Args:
        known: Known secrets with their descriptions, such as {"…": "the value of API_TOKEN"}.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self._kinds = {
            form: kind for value, kind in known.items() for form in _list_forms(value) if form
        }
        longest_first = sorted(self._kinds, key=len, reverse=True)
        words = "|".join(map(re.escape, longest_first))
        self._known = re.compile(f"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])") if words else None

    def find(self, value: Any) -> list[Found]:
        """Return the secrets in a value."""
        return [
            Found(_cut(self.hide(_format_place(place))), kind, secret)
            for batch in _batch(_list_texts(value))
            if len(batch) == 1 or self.find_in_text("\n".join(text for _, text in batch))
            for place, text in batch
            for kind, secret in self.find_in_text(text)
        ]

    def find_in_text(self, text: str) -> list[tuple[str, str]]:
        """Return the kinds and the texts of the secrets in a text."""
        found = [(token.kind, text[token.begin : token.end]) for token in find_tokens(text)]
        if self._known is not None:
            found += [(self._kinds[match[0]], match[0]) for match in self._known.finditer(text)]
        return found

    def hide(self, text: str) -> str:
        """Return a text with its secrets replaced by "•••"."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return hide_tokens(text)

    def describe(self, value: Any) -> str:
        """Return a one-line description of a value without its secrets."""
        try:
            return self.hide(describe_constant(self._redact(value)))
        except RecursionError:
            return f"<{type(value).__qualname__} {HIDDEN}>"

    def _redact(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return self.hide(value)
        if kind is dict:
            return {self._redact_key(k): self._redact(v) for k, v in value.items()}
        if kind in (list, tuple, set, frozenset):
            return kind(map(self._redact_key if kind in (set, frozenset) else self._redact, value))
        if kind in _PLAIN or not self.find(value):
            return value
        return _Hidden(f"<{kind.__qualname__} {HIDDEN}>")

    def _redact_key(self, value: Any) -> Any:
        return value if not self.find(value) else _Hidden(HIDDEN)


def make_examiner(variables: Mapping[str, str]) -> Examiner:
    """Return an examiner that knows the secrets in an environment; see list_secret_variables."""
    secrets = list_secret_variables(variables)
    return Examiner({value: f"the value of {name}" for name, value in secrets.items()})


@functools.cache
def examine_here() -> Examiner:
    """Return the examiner that knows the secrets in the environment of this process."""
    return make_examiner(os.environ)


def hide_value(value: Any) -> Any:
    """Return a JSON value unchanged if it has no secret, else a text that shows it without its secrets."""
    examiner = examine_here()
    return examiner.describe(value) if examiner.find(value) else value


def _list_forms(value: str) -> set[str]:
    """Return the forms of a value: as plain text, in URLs and in JSON."""
    return {value, quote(value, safe=""), json.dumps(value)[1:-1]}


def _batch(texts: Iterable[tuple[Place, str]]) -> Iterator[list[tuple[Place, str]]]:
    """Group texts into batches, because one search of a long text is faster than many of short texts."""
    batch: list[tuple[Place, str]] = []
    size = 0
    for place, text in texts:
        batch.append((place, text))
        size += len(text) + 1
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _list_texts(value: Any) -> Iterator[tuple[Place, str]]:
    """Yield each text in a value, with its place."""
    queue: list[tuple[Place, Any]] = [((), value)]
    seen: dict[
        int, Any
    ] = {}  # it keeps the values alive, because Python reuses the id of a deleted value
    while queue and len(seen) < _MOST:
        place, value = queue.pop()
        kind = type(value)
        if kind in _PLAIN or isinstance(value, type):
            continue
        if isinstance(value, str):
            yield place, value[:_LONGEST]
        elif isinstance(value, bytes | bytearray):
            yield place, bytes(value[:_LONGEST]).replace(b"\0", b"").decode("latin-1")
        if kind in (str, bytes, bytearray) or id(value) in seen:
            continue
        seen[id(value)] = value
        try:
            inner = [((place, step), one) for step, one in _list_inner(value)]
        except Exception:  # noqa: BLE001 - user code raised; the object cannot be inspected
            inner = []
        queue += reversed(inner)


def _list_inner(value: Any) -> Iterator[tuple[Step, Any]]:
    """Yield the values in a container or object, with the step that leads to each of them."""
    if isinstance(value, Parameter):
        yield f" (default of run parameter {value.name})", value.default
    elif isinstance(value, Result):
        yield from (((index,), index) for index in value.path)
    elif isinstance(value, Mapping):
        yield from ((", a key", key) for key in value if type(key) not in _PLAIN)
        yield from (((key,), item) for key, item in value.items() if type(item) not in _PLAIN)
        yield from _list_attributes(value)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from ((f".{name}", item) for name, item in zip(value._fields, value, strict=False))
    elif isinstance(value, list | tuple | set | frozenset):
        is_ordered = isinstance(value, list | tuple)
        items = ((n, item) for n, item in enumerate(value) if type(item) not in _PLAIN)
        yield from ((n if is_ordered else "", item) for n, item in items)
        yield from _list_attributes(value)
    elif not isinstance(value, str | bytes | bytearray):
        for kind, take in _TAKERS:
            if isinstance(value, kind):
                yield from take(value)
                return
        yield from _list_of_object(value)


def _list_of_function(value: types.FunctionType) -> Iterator[tuple[Step, Any]]:
    yield from (("", one) for one in (value.__defaults__, value.__kwdefaults__))
    cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=False)
    yield from ((f", {name} in it", cell.cell_contents) for name, cell in cells)


def _list_of_object(value: Any) -> Iterator[tuple[Step, Any]]:
    top = type(value).__module__.partition(".")[0]
    if top == "pandas":
        yield from (("", part) for part in take_apart(value) or ())
    elif top == "numpy" and hasattr(value, "dtype"):
        if value.dtype.kind in "USO":
            yield "", value.tolist()
    else:
        yield from list(_list_attributes(value)) or _list_kept(value)


_TAKERS: tuple[tuple[type, Callable[[Any], Iterable[tuple[Step, Any]]]], ...] = (
    (functools.partial, lambda it: [("", one) for one in (it.func, it.args, it.keywords)]),
    (types.FunctionType, _list_of_function),
    (types.MethodType, lambda it: [(".__self__", it.__self__)]),
    (PurePath, lambda it: [("", str(it))]),
    (Enum, lambda it: [(".value", it.value)]),
)


def _list_attributes(value: Any) -> Iterator[tuple[Step, Any]]:
    yield from ((f".{name}", one) for name, one in getattr(value, "__dict__", {}).items())
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _list_kept(value: Any) -> Iterator[tuple[Step, Any]]:
    """Yield the state that pickle would save of an object without attributes, such as a queue."""
    reducer = copyreg.dispatch_table.get(type(value))
    reduced = reducer(value) if reducer else value.__reduce_ex__(4)
    if isinstance(reduced, tuple):
        _, args, *rest = reduced
        yield from (("", one) for one in (args, *(list(r) if _is_iterator(r) else r for r in rest)))


def _is_iterator(value: Any) -> bool:
    return hasattr(value, "__next__")


def _format_place(place: Place) -> str:
    steps = []
    while place:
        place, step = place
        if isinstance(step, tuple):
            step = f"[{_spell(step[0])}]"
        steps.append(f"[{step}]" if isinstance(step, int) else step)
    return "".join(reversed(steps))


def _spell(key: Any) -> str:
    return json.dumps(key, ensure_ascii=False) if isinstance(key, str) else describe_constant(key)


def _cut(place: str) -> str:
    text = re.sub(r"\s+", " ", place)
    return text if len(text) <= _LONGEST_PLACE else f"{text[: _LONGEST_PLACE - 1]}…"
