"""Closures of what has no source in the project: made in a shell, by exec, or installed."""

from __future__ import annotations

from typing import Any

from fftasks.closure.find import Closure, make_closure
from fftasks.constant import digest_constant, find_origin


def find_code(function: Any) -> Closure:
    """Return the closure of a function or class by its code object, or by its distribution's version.

    Of a code object count its instructions, constants, defaults, the values it closes over, and the
    globals that it names, in the same way. The instructions differ from one Python to the next.
    """
    name = _name(function)
    digest, stable = digest_constant(function)
    origin = find_origin(function)
    if origin is not None:
        return make_closure({f"{name} of {origin}": digest}, {}, [])
    notes = [f"{name} has no source here: its code object counts"]
    if not stable:
        notes.append(f"{name} uses a value that has no stable digest")
    return make_closure({f"{name} (code object)": digest}, {}, notes)


def _name(function: Any) -> str:
    """Return what a user knows a function by; a partial or another object by its type."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return ".".join(filter(None, (getattr(named, "__module__", None), named.__qualname__)))
