"""Run parameters: placeholders for values that are chosen for each run."""

from __future__ import annotations

import keyword
from typing import Any, NoReturn

from fftasks.api.node import (
    FORBIDDEN_OPERATORS,
    UnresolvedValue,
    find_source_location,
    forbid_operators,
    replace_unresolved,
)
from fftasks.errors import WorkflowError

PARAMETER_TYPES: dict[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a dict",
}
_RESERVED = ("profile",)  # variables of doit's command line that have another meaning


class Parameter(UnresolvedValue):
    """A run parameter, such as `train(rate=Parameter("alpha", default=0.1))`.

    A parameter can be passed to a node, also inside lists, tuples, dicts and sets. It has a value only
    inside the
    function of the node. Every other use raises WorkflowError.

    Attributes:
        name: Name in `doit run alpha=0.2` and in the KFP web UI: a Python identifier. Parameters of a
            workflow with
            the same name are the same parameter, and must have the same default and help.
        default: An int, float, str, bool, list or dict. Values must have the type of the default.
        help: Description of the parameter for the person who chooses the value.
        site: Line that created the parameter.

    Raises:
        WorkflowError: The name or the default is invalid.
    """

    def __init__(
        self,
        name: str,
        default: Any,
        help: str = "",  # noqa: A002 - the usual name for a description
    ) -> None:
        self.site = find_source_location()
        self.name = self._check_name(name)
        self.default = self._check_default(default)
        self.help = help

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, default={self.default!r})"

    def is_like(self, other: Parameter) -> bool:
        """Return whether another parameter has the same default, type and help."""
        return (repr(self.default), self.help) == (repr(other.default), other.help)

    def refuse(self, use: str) -> NoReturn:
        """Raise WorkflowError for a use of the missing value, such as "cannot be compared"."""
        raise WorkflowError(
            f"{find_source_location()}: parameter {self.name!r} {use}: it has no value while the graph"
            " is built",
            tip="pass it to a @workflow function, and use the value there",
        )

    def _check_name(self, name: object) -> str:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise WorkflowError(
                f"{self.site}: a parameter cannot be called {name!r}",
                tip='the name must be a Python identifier, such as Parameter("alpha", default=0.1)',
            )
        if name in _RESERVED:
            raise WorkflowError(
                f"{self.site}: a parameter cannot be called {name!r}",
                found=[f"`doit {name}=...` chooses the {name} of config/"],
                tip="choose another name",
            )
        return name

    def _check_default(self, default: Any) -> Any:
        if type(default) not in PARAMETER_TYPES:
            raise WorkflowError(
                f"{self.site}: parameter {self.name!r}: the default is {default!r}",
                found=[
                    f"a {type(default).__name__} cannot be typed into a command line or a web page"
                ],
                tip=f"use one of {', '.join(kind.__name__ for kind in PARAMETER_TYPES)}",
            )
        return default

    def __eq__(self, other: object) -> bool:
        return True if other is self else self.refuse("cannot be compared")

    def __ne__(self, other: object) -> bool:
        return False if other is self else self.refuse("cannot be compared")

    def __deepcopy__(self, _memo: object) -> Parameter:
        return self  # a copy of a container must contain the same parameter

    def __reduce__(self) -> NoReturn:
        # reached when a constant is stored: the parameter is in an object that replace_unresolved does not
        # search
        raise WorkflowError(
            f"{self!r} ({self.site}) is hidden inside an object that is passed to a node",
            tip="pass it directly, or in a list, tuple, dict or set",
        )

    __hash__ = object.__hash__
    __array_ufunc__ = None  # NumPy then lets the parameter handle `array * parameter`


def _list_uses() -> dict[str, str]:
    """Return special methods of uses of a value, with the end of the error message."""
    converting = [f"__{name}__" for name in ("int", "float", "complex", "index")]
    looking = ["__getitem__", "__len__", "__contains__", "__iter__"]
    return {
        **FORBIDDEN_OPERATORS,
        **dict.fromkeys(converting, "cannot be converted"),
        **dict.fromkeys(looking, "cannot be looked into"),
        "__bool__": "is neither true nor false",
        "__format__": "cannot become part of a text",
        "__call__": "cannot be called",
    }


forbid_operators(Parameter, _list_uses(), Parameter.refuse)


def find_parameters(value: Any) -> list[Parameter]:
    """Return the run parameters in a value, also inside lists, tuples, dicts and sets."""
    found: list[UnresolvedValue] = []
    replace_unresolved(value, found.append)
    return [each for each in found if isinstance(each, Parameter)]
