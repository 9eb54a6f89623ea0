"""Values that were carried as JSON, where every number is a double: given their Python types again."""

from __future__ import annotations

from typing import Any

from fftasks.errors import ParameterError
from fftasks.workflow.parameter import KINDS

_MAX_EXACT = 2**53


def restore(value: Any, template: Any) -> Any:
    """Return a parameter that KFP carried as JSON with the types of the constant in the graph.

    value                             template      result
    equal to the template             any           the template itself (-0.0 stays -0.0)
    4.0 (a double on the way)         3             4
    3 (3.0, as Go writes it)          2.5           3.0
    [3, 4.0, 5.0]                     [1, 2]        [3, 4, 5]: what was added is like the last item
    {"a": 1.0, "new": 2.0}            {"a": 3}      {"a": 1, "new": 2}
    3.5, "x", True                    3             as it is: somebody chose another type

    A number that no template speaks for is an int if it is whole.
    """
    if _is_same(value, template):
        return template
    if isinstance(value, list):
        like = template if isinstance(template, list) else []
        like = [*like, *like[-1:] * len(value)] or [None] * len(value)
        return [restore(item, template) for item, template in zip(value, like, strict=False)]
    if isinstance(value, dict):
        known = template if isinstance(template, dict) else {}
        return {key: restore(item, known.get(key)) for key, item in value.items()}
    return _restore_number(value, template)


def _restore_number(value: Any, template: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if isinstance(template, float):
        return float(value)
    whole = isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_EXACT
    return int(value) if whole else value


def _is_same(value: Any, template: Any) -> bool:
    # not ==, for which True is 1
    if isinstance(value, list) and isinstance(template, list):
        return len(value) == len(template) and all(map(_is_same, value, template))
    if isinstance(value, dict) and isinstance(template, dict):
        same_keys = value.keys() == template.keys()
        return same_keys and all(_is_same(value[key], template[key]) for key in value)
    if isinstance(value, bool) or isinstance(template, bool):
        return value is template
    if isinstance(value, (int, float)) and isinstance(template, (int, float)):
        return value == template
    return isinstance(value, str) and isinstance(template, str) and value == template


def fit(name: str, value: Any, default: Any) -> Any:
    """Return the value of a run parameter with the types of its default.

    Raises ParameterError if it is of another type.
    """
    restored = restore(value, default)
    if type(restored) is type(default):
        return restored
    raise ParameterError(
        f"parameter {name!r} was given {value!r}",
        found=[f"it must be {KINDS[type(default)]}, as its default {default!r} is"],
    )
