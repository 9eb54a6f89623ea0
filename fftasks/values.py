"""Values of run parameters: read from a command line, checked against the parameters that there are."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fftasks.constant.parameter import name_type
from fftasks.errors import ParameterError, suggest_name
from fftasks.runtime.restore import fit
from fftasks.workflow.parameter import KINDS

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_value(name: str, text: str, default: Any) -> Any:
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
            value: Any = _WORDS[text.lower()]
        elif kind in (int, float, str):
            value = kind(text)
        else:
            value = _parse_container(text)
    except (ValueError, KeyError, SyntaxError, MemoryError, RecursionError):
        raise ParameterError(
            f"parameter {name!r} was given {text!r}",
            found=[f"it must be {KINDS[kind]}, as its default {default!r} is"],
            tip=_TIPS.get(kind, "").format(name=name),
        ) from None
    return check_value(name, value, default)


_TIPS = {
    bool: "{name}=true or {name}=false",
    list: "{name}='[1, 2]'",
    dict: "{name}='{{\"key\": 1}}'",
}


def check_value(name: str, value: Any, default: Any) -> Any:
    """Return a parameter's value with the types of its default; raise ParameterError if it is none."""
    fitting = fit(name, value, default)
    if name_type(fitting) is None:
        raise ParameterError(
            f"parameter {name!r} was given {value!r}",
            found=["Kubeflow Pipelines would not give this back as it is"],
            tip="it takes finite numbers (integers to 2**53), text, true, false, and lists and dicts of them",
        )
    return fitting


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
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


def list_own_names(dodo: Path) -> set[str]:
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


def format_values(values: Mapping[str, Any]) -> list[str]:
    """Return values as the command line takes them: ["alpha=0.2", "names=[1, 2]"]."""
    return [f"{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v in values.items()]


def _parse_container(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)
