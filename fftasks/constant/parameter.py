"""What Kubeflow Pipelines carries as a parameter without loss."""

from __future__ import annotations

import math
from typing import Any

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


def kfp_value(value: Any) -> tuple[str, Any] | None:
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


def name_type(value: Any) -> str | None:
    """Return KFP's type for the value of a run parameter; None if KFP cannot carry it.

    As kfp_value has it, but 1.0 may be inside a list or dict: its type comes from the parameter's default.
    """
    return _TYPES[type(value)] if _is_safe(value, whole=True) else None


def _is_safe(value: Any, *, whole: bool) -> bool:
    try:
        return _is_carried(value, inside=False, whole=whole)
    except RecursionError:  # deep, or holding itself: JSON does not take it either
        return False


def _is_carried(value: Any, *, inside: bool, whole: bool) -> bool:
    """Tell whether a value comes back as it is; whole: floats without a fraction may be inside."""
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
