"""Parse and check the values of run parameters, including which values KFP preserves exactly."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fftasks.api.parameter import PARAMETER_TYPES
from fftasks.errors import ParameterError, suggest_name
from fftasks.runner.executor_input import restore_parameter

# KFP's numbers are doubles
_MAX_INTEGER = 2**53
_TYPES = {
    str: "STRING",
    bool: "BOOLEAN",
    int: "NUMBER_INTEGER",
    float: "NUMBER_DOUBLE",
    list: "LIST",
    dict: "STRUCT",
}


def convert_to_kfp(value: Any) -> tuple[str, Any] | None:
    """Return KFP's type for a value, and the value; None if KFP would not give back what it was given.

    value                                              KFP's type
    str, but for lone surrogates, NUL and "{{$"        STRING
    bool                                               BOOLEAN
    int from -2**53 to 2**53                           NUMBER_INTEGER
    float, but for nan, inf and -0.0                   NUMBER_DOUBLE
    list of these, at any depth                        LIST
    dict of these with str as keys                     STRUCT

    A float without a fraction is none of these inside a list or dict: 1.0 would come back as 1.
    Subclasses (IntEnum, namedtuple) and what looks alike (numpy scalars, tuples) are not carried.
    """
    return (_TYPES[type(value)], value) if _is_safe(value, whole=False) else None


def name_kfp_type(value: Any) -> str | None:
    """Return KFP's type for the value of a run parameter; None if KFP cannot carry it.

    The same as convert_to_kfp, but 1.0 may be inside a list or dict: its type comes from the parameter's
    default.
    """
    return _TYPES[type(value)] if _is_safe(value, whole=True) else None


def _is_safe(value: Any, *, whole: bool) -> bool:
    try:
        return _is_carried(value, inside=False, whole=whole)
    except RecursionError:  # deep, or holding itself: JSON does not take it either
        return False


def _is_carried(value: Any, *, inside: bool, whole: bool) -> bool:
    """Return whether KFP returns a value unchanged.

    Args:
        value: Value, or an item of a list or dict.
        inside: Whether the value is an item of a list or dict.
        whole: Whether floats without a fraction are accepted inside lists and dicts.
    """
    kind = type(value)
    if kind is str:
        return _is_text(value)
    if kind is int:
        return bool(abs(value) <= _MAX_INTEGER)
    if kind is float:
        is_zero_below = value == 0 and math.copysign(1, value) < 0
        is_lost = inside and not whole and value.is_integer()
        return math.isfinite(value) and not is_zero_below and not is_lost
    if kind is list:
        return all(_is_carried(item, inside=True, whole=whole) for item in value)
    if kind is dict:
        keys = all(type(key) is str and _is_text(key) for key in value)
        return keys and all(_is_carried(i, inside=True, whole=whole) for i in value.values())
    return kind is bool


def _is_text(value: str) -> bool:
    # "{{$" starts a placeholder of KFP's, and nothing escapes it
    if "\0" in value or "{{$" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_parameter(name: str, text: str, default: Any) -> Any:
    """Return the value that a text on the command line gives to a parameter.

    default      text
    str          any, as it is
    int, float   3, -1, 0.5, 1e-3
    bool         true, yes, on, false, no, off
    list, dict   as JSON or Python write them: [0.1, 1], {"depth": 3}

    Raises ParameterError if it gives none.
    """
    kind = type(default)
    try:
        if kind is bool:
            value: Any = _BOOLEANS[text.lower()]
        elif kind in (int, float, str):
            value = kind(text)
        else:
            value = _parse_container(text)
    except (ValueError, KeyError, SyntaxError, MemoryError, RecursionError):
        raise ParameterError(
            f"parameter {name!r} was given {text!r}",
            found=[f"it must be {PARAMETER_TYPES[kind]}, as its default {default!r} is"],
            tip=_TIPS.get(kind, "").format(name=name),
        ) from None
    return check_parameter(name, value, default)


_TIPS = {
    bool: "{name}=true or {name}=false",
    list: "{name}='[1, 2]'",
    dict: "{name}='{{\"key\": 1}}'",
}


def check_parameter(name: str, value: Any, default: Any) -> Any:
    """Return a parameter's value with the types of its default; raise ParameterError if it is none."""
    fitting = restore_parameter(name, value, default)
    if name_kfp_type(fitting) is None:
        raise ParameterError(
            f"parameter {name!r} was given {value!r}",
            found=["Kubeflow Pipelines would not give this back as it is"],
            tip="it takes finite numbers (integers to 2**53), text, true, false, and lists and dicts of them",
        )
    return fitting


def check_parameter_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ParameterError for the first name that no parameter has, with the nearest one."""
    names = list(known)
    for name in given:
        if name not in names:
            listed = f"parameters: {', '.join(names)}" if names else "the workflows have none"
            raise ParameterError(
                f"there is no run parameter {name!r}",
                found=[listed],
                tip=suggest_name(name, names),
            )


def list_get_var_names(dodo: Path) -> set[str]:
    """Return the names of variables that a dodo.py asks for itself, with get_var("...")."""
    try:
        tree = ast.parse(dodo.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and each.args]
    return {
        call.args[0].value
        for call in calls
        if ast.unparse(call.func).rpartition(".")[2] == "get_var"
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


def format_parameters(values: Mapping[str, Any]) -> list[str]:
    """Return values as the command line takes them: ["alpha=0.2", "names=[1, 2]"]."""
    return [f"{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v in values.items()]


def _parse_container(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)
