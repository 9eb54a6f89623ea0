"""What arrays and frames consist of, for those packages that have them: nothing is imported for it."""

from __future__ import annotations

import sys
from typing import Any

_PLAIN_KINDS = "biufcmMSUV"


def take_apart(value: Any) -> tuple[Any, ...] | None:
    """Return what counts of a numpy or pandas object; None for any other."""
    top = type(value).__module__.partition(".")[0]
    if top == "numpy":
        return _take_numpy(value)
    return _take_pandas(value) if top == "pandas" else None


def _take_numpy(value: Any) -> tuple[Any, ...] | None:
    numpy = sys.modules["numpy"]
    if type(value) is not numpy.ndarray and not isinstance(value, numpy.generic):
        return None
    dtype = value.dtype
    kind = repr(dtype.descr) if dtype.fields else dtype.str
    name = "array" if type(value) is numpy.ndarray else "scalar"
    if dtype.hasobject or dtype.kind not in _PLAIN_KINDS:
        return name, kind, value.shape, value.tolist()
    flat = numpy.ascontiguousarray(value).reshape(-1)
    return name, kind, value.shape, flat.view("u1").data if flat.nbytes else b""


def _take_pandas(value: Any) -> tuple[Any, ...] | None:
    pandas = sys.modules["pandas"]
    if isinstance(value, pandas.DataFrame):
        columns = [_take_column(value.iloc[:, n].array) for n in range(value.shape[1])]
        return type(value), value.columns, value.index, columns, value.attrs
    if isinstance(value, pandas.Series):
        return type(value), value.name, value.index, _take_column(value.array), value.attrs
    if isinstance(value, pandas.MultiIndex):
        return type(value), list(value.names), list(value.levels), list(value.codes)
    if isinstance(value, pandas.Index):
        frequency = str(getattr(value, "freq", None))
        return type(value), list(value.names), _take_column(value.array), frequency
    return None


def _take_column(array: Any) -> tuple[Any, ...]:
    if hasattr(array, "categories"):
        return "categories", array.codes, list(array.categories), array.ordered
    if type(array.dtype).__module__.partition(".")[0] == "numpy":
        return (array.to_numpy(),)
    return str(array.dtype), list(array)
