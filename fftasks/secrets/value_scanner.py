"""Find secrets in the values of a user's program, and hide them where values are shown.

A secret is a string that matches a rule of rules.py, or the known value of an environment variable or
setting that is a secret. A literal value is a secret too if its argument, key, attribute or option is named
like one. The scanner searches values recursively; this table lists what it searches in each type of value:

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import quote

from fftasks.api.node import Result
from fftasks.api.parameter import Parameter
from fftasks.codehash.python_values import describe_constant, list_array_parts
from fftasks.secrets.assignments import LONGEST_KEY, is_secret_literal
from fftasks.secrets.placeholders import SETTING_STRICTNESS
from fftasks.secrets.scanner import HIDDEN, find_tokens, hide_tokens
from fftasks.secrets.secret_names import is_secret_name, list_secret_variables

_PLAIN = frozenset({int, float, bool, complex, type(None), type(...), type, types.ModuleType})
_MOST = 200_000  # values in one argument; the rest of a larger argument is not searched
_LONGEST = 1_000_000  # characters of a text that are searched
_LONGEST_PLACE = 120
_BATCH = 1 << 16  # characters
_BY_NAME = "secret-by-name"
_NAMED_STEP = re.compile(r"\.(\w+)$| \(default of run parameter (.*)\)$|, (\w+) in it$|, a key$()")


# One step from a container to a value: a text, the index of an item, or a tuple with a key. Paths are
# formatted only for findings, for speed.
PathStep = str | int | tuple[Any]
ValuePath = tuple[Any, ...]  # () or (place of the container, step)


class ValueFinding(NamedTuple):
    """A secret in a value.

    Attributes:
        place: Path to the secret in Python's syntax, appended to the value's name: `["auth"].token`.
        kind: Kind of the token, or the name of the variable or setting that has this value.
        text: The secret itself.
    """

    place: str
    kind: str
    text: str


class _Text(NamedTuple):
    """A text in a value, its place, and whether it is a secret because of its name."""

    place: ValuePath
    text: str
    is_named: bool


class _Redacted:
    """Placeholder that is displayed instead of an object that contains a secret."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class ValueScanner:
    """Finds secrets in values, and hides them.

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

    def find(self, value: Any, name: str = "") -> list[ValueFinding]:
        """Return the secrets in a value.

        Args:
            value: Any value.
            name: Name of the argument, parameter or setting that has the value. A text that is named
                like a secret is one, here and behind each key and attribute in the value.
        """
        return [
            ValueFinding(_cut(self.hide(_format_place(place))), kind, secret)
            for batch in _batch(_list_texts(value, name))
            if len(batch) == 1
            or any(one.is_named for one in batch)
            or self.find_in_text("\n".join(one.text for one in batch))
            for place, text, is_named in batch
            for kind, secret in self.find_in_text(text) or ([(_BY_NAME, text)] if is_named else [])
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

    def describe(self, value: Any, name: str = "") -> str:
        """Return a one-line description of a value without its secrets; see find()."""
        try:
            return self.hide(describe_constant(self._redact(value, name)))
        except RecursionError:
            return f"<{type(value).__qualname__} {HIDDEN}>"

    def _redact(self, value: Any, name: str = "") -> Any:
        kind = type(value)
        if kind is str:
            return HIDDEN if _is_named(name, value) else self.hide(value)
        if kind is dict:
            return {self._redact_key(k): self._redact(v, _name(k, name)) for k, v in value.items()}
        if kind in (list, tuple):
            return kind(
                self._redact(v, n) for v, n in zip(value, _name_items(value, name), strict=True)
            )
        if kind in (set, frozenset):
            return kind(self._redact_key(one, name) for one in value)
        if kind in _PLAIN or not self.find(value, name):
            return value
        return _Redacted(f"<{kind.__qualname__} {HIDDEN}>")

    def _redact_key(self, value: Any, name: str = "") -> Any:
        return value if not self.find(value, name) else _Redacted(HIDDEN)


def make_environment_scanner(variables: Mapping[str, str]) -> ValueScanner:
    """Return a scanner that knows the secrets in an environment; see list_secret_variables."""
    secrets = list_secret_variables(variables)
    return ValueScanner({value: f"the value of {name}" for name, value in secrets.items()})


@functools.cache
def get_environment_scanner() -> ValueScanner:
    """Return the scanner that knows the secrets in the environment of this process."""
    return make_environment_scanner(os.environ)


def redact_value(value: Any, name: str = "") -> Any:
    """Return a JSON value unchanged if it has no secret, else a text that shows it without its secrets.

    Args:
        value: The value.
        name: The name of the argument, parameter or setting that has the value.
    """
    scanner = get_environment_scanner()
    return scanner.describe(value, name) if scanner.find(value, name) else value


def _list_forms(value: str) -> set[str]:
    """Return the forms of a value: as plain text, in URLs and in JSON."""
    return {value, quote(value, safe=""), json.dumps(value)[1:-1]}


def _batch(texts: Iterable[_Text]) -> Iterator[list[_Text]]:
    """Group texts into batches, because one search of a long text is faster than many of short texts."""
    batch: list[_Text] = []
    size = 0
    for one in texts:
        batch.append(one)
        size += len(one.text) + 1
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _list_texts(value: Any, name: str) -> Iterator[_Text]:
    """Yield each text in a value, with its place."""
    queue: list[tuple[ValuePath, str, Any]] = [((), name, value)]
    # it keeps the values alive, because Python reuses the id of a deleted value
    seen: dict[int, Any] = {}
    while queue and len(seen) < _MOST:
        place, name, value = queue.pop()
        kind = type(value)
        if kind in _PLAIN or isinstance(value, type):
            continue
        if isinstance(value, str):
            text = str.__getitem__(value, slice(_LONGEST))
            yield _Text(place, text, _is_named(name, text))
        elif isinstance(value, bytes | bytearray):
            text = bytes(value[:_LONGEST]).replace(b"\0", b"").decode("latin-1")
            yield _Text(place, text, _is_named(name, text))
        if kind in (str, bytes, bytearray) or id(value) in seen:
            continue
        seen[id(value)] = value
        inner: list[tuple[ValuePath, str, Any]]
        if kind is list or kind is tuple:
            names: Iterable[str] = _name_items(value, name)
            inner = [((place, n), *one) for n, one in enumerate(zip(names, value, strict=True))]
            inner = [one for one in inner if type(one[2]) not in _PLAIN]
        else:
            steps = _list_safely(_list_inner, value)
            inner = [((place, step), _name(step, name), one) for step, one in steps]
        queue += reversed(inner)


def _list_safely(
    find: Callable[[Any], Iterable[tuple[PathStep, Any]]], value: Any
) -> list[tuple[PathStep, Any]]:
    """Return what is in a value; if that fails, its attributes and what pickle keeps of it too."""
    found: list[tuple[PathStep, Any]] = []
    try:
        found.extend(find(value))
    except Exception:  # noqa: BLE001 - the border to the user's code
        if find is _list_inner:
            found += _list_safely(_list_attributes, value) + _list_safely(
                _list_pickled_state, value
            )
    return found


def _is_named(name: str, text: str) -> bool:
    """Return whether the name of a text makes it a secret."""
    return (
        is_secret_name(name)
        and len(text) <= LONGEST_KEY
        and is_secret_literal(name, text.encode("utf-8", "surrogatepass"), SETTING_STRICTNESS)
    )


def _name(step: Any, name: str) -> str:
    """Return the name of a value behind a step: of a key or attribute, or else of what is around it."""
    if isinstance(step, tuple):
        step = step[0]
    if not isinstance(step, str):
        return name
    match = _NAMED_STEP.match(step)
    if match is None:
        return step or name
    return match[1] or match[2] or match[3] or ""


def _name_items(value: Sequence[Any], name: str) -> list[str]:
    """Return the names of items: behind an option such as "--password", that of the option."""
    names, before = [], ""
    for item in value:
        names.append(before or name)
        before = item.lstrip("-") if type(item) is str and item.startswith("--") else ""
    return names


def _list_inner(value: Any) -> Iterator[tuple[PathStep, Any]]:
    """Yield the values in a container or object, with the step that leads to each of them."""
    if isinstance(value, Parameter):
        yield f" (default of run parameter {value.name})", value.default
    elif isinstance(value, Result):
        yield from (((index,), index) for index in value.path)
    elif isinstance(value, Mapping):
        # what a subclass shows need not be all that pickle keeps
        items = list(dict.items(value) if isinstance(value, dict) else value.items())
        yield from ((", a key", key) for key, _ in items if type(key) not in _PLAIN)
        yield from (((key,), item) for key, item in items if type(item) not in _PLAIN)
        yield from _list_attributes(value)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = zip(value._fields, tuple.__iter__(value), strict=False)
        yield from ((f".{name}", item) for name, item in fields)
        yield from _list_attributes(value)
    elif isinstance(value, list | tuple | set | frozenset):
        is_ordered = isinstance(value, list | tuple)
        kinds: tuple[Any, ...] = (list, tuple, set, frozenset)
        iterate = next(kind.__iter__ for kind in kinds if isinstance(value, kind))
        numbered = enumerate(iterate(value))
        yield from (
            (n if is_ordered else "", one) for n, one in numbered if type(one) not in _PLAIN
        )
        yield from _list_attributes(value)
    elif isinstance(value, str | bytes | bytearray):
        if isinstance(value, Enum):
            yield ".value", value.value
        yield from _list_attributes(value)
    else:
        for kind, take in _CONTENT_BY_TYPE:
            if isinstance(value, kind):
                yield from take(value)
                return
        yield from _list_of_object(value)


def _list_of_function(value: types.FunctionType) -> Iterator[tuple[PathStep, Any]]:
    yield from (("", one) for one in (value.__defaults__, value.__kwdefaults__))
    cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=False)
    yield from ((f", {name} in it", cell.cell_contents) for name, cell in cells)


def _list_of_object(value: Any) -> Iterator[tuple[PathStep, Any]]:
    top = type(value).__module__.partition(".")[0]
    if top == "pandas":
        yield from (("", part) for part in list_array_parts(value) or ())
    elif top == "numpy" and hasattr(value, "dtype"):
        if value.dtype.kind in "USO":
            yield "", value.tolist()
    else:
        yield from list(_list_attributes(value)) or _list_pickled_state(value)


_CONTENT_BY_TYPE: tuple[tuple[type, Callable[[Any], Iterable[tuple[PathStep, Any]]]], ...] = (
    (functools.partial, lambda it: [("", one) for one in (it.func, it.args, it.keywords)]),
    (types.FunctionType, _list_of_function),
    (types.MethodType, lambda it: [(".__self__", it.__self__)]),
    (PurePath, lambda it: [("", str(it))]),
    (Enum, lambda it: [(".value", it.value)]),
)


def _list_attributes(value: Any) -> Iterator[tuple[PathStep, Any]]:
    yield from ((f".{name}", one) for name, one in getattr(value, "__dict__", {}).items())
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _list_pickled_state(value: Any) -> Iterator[tuple[PathStep, Any]]:
    """Yield the state that pickle would save of an object without attributes, such as a queue."""
    reducer = copyreg.dispatch_table.get(type(value))
    reduced = reducer(value) if reducer else value.__reduce_ex__(4)
    if isinstance(reduced, tuple):
        _, args, *rest = reduced
        yield from (("", one) for one in (args, *(list(r) if _is_iterator(r) else r for r in rest)))


def _is_iterator(value: Any) -> bool:
    return hasattr(value, "__next__")


def _format_place(place: ValuePath) -> str:
    steps = []
    while place:
        place, step = place
        if isinstance(step, tuple):
            step = f"[{_format_key(step[0])}]"
        steps.append(f"[{step}]" if isinstance(step, int) else step)
    return "".join(reversed(steps))


def _format_key(key: Any) -> str:
    return json.dumps(key, ensure_ascii=False) if isinstance(key, str) else describe_constant(key)


def _cut(place: str) -> str:
    text = re.sub(r"\s+", " ", place)
    return text if len(text) <= _LONGEST_PLACE else f"{text[: _LONGEST_PLACE - 1]}…"
