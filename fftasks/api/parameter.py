"""Run parameters: values that stay open while the graph is built, and are chosen for each run."""

from __future__ import annotations

import keyword
from typing import Any, NoReturn

from fftasks.api.node import CALCULATIONS, Pending, find_site, refuse_uses, replace_pending
from fftasks.errors import WorkflowError

KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a dict",
}
_TAKEN = ("profile",)  # names that doit's command line has for something else


class Parameter(Pending):
    """A value of a call that may be another one in each run: `train(rate=Parameter("alpha", default=0.1))`.

    name: what it is called in `doit run alpha=0.2` and in Kubeflow Pipelines' web page; parameters of one
        name in a workflow are one parameter, and must be alike
    default: int, float, str, bool, list or dict; its type is the parameter's
    help: a sentence for whoever chooses the value

    It may stand anywhere in lists, tuples, dicts and sets that are passed to a node. It has no value
    outside the node's function: whatever asks for one raises WorkflowError.
    """

    def __init__(
        self,
        name: str,
        default: Any,
        help: str = "",  # noqa: A002 - the word that everybody uses for it
    ) -> None:
        self.site = find_site()
        self.name = self._check_name(name)
        self.default = self._check_default(default)
        self.help = help

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, default={self.default!r})"

    def is_like(self, other: Parameter) -> bool:
        """Tell whether another parameter of this name has the same default, type and help."""
        return (repr(self.default), self.help) == (repr(other.default), other.help)

    def refuse(self, use: str) -> NoReturn:
        """Raise WorkflowError: a value was asked for."""
        raise WorkflowError(
            f"{find_site()}: parameter {self.name!r} {use}: it has no value while the graph is built",
            tip="pass it to a @workflow function, and do there what is to be done with the value",
        )

    def _check_name(self, name: object) -> str:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise WorkflowError(
                f"{self.site}: a parameter cannot be called {name!r}",
                tip='its name is a word as Python has them, such as Parameter("alpha", default=0.1)',
            )
        if name in _TAKEN:
            raise WorkflowError(
                f"{self.site}: a parameter cannot be called {name!r}",
                found=[f"`doit {name}=...` chooses the {name} of config/"],
                tip="choose another name",
            )
        return name

    def _check_default(self, default: Any) -> Any:
        if type(default) not in KINDS:
            raise WorkflowError(
                f"{self.site}: parameter {self.name!r}: the default is {default!r}",
                found=[
                    f"a {type(default).__name__} cannot be typed into a command line or a web page"
                ],
                tip=f"give {', '.join(kind.__name__ for kind in KINDS)}; make the rest in the function",
            )
        return default

    def __eq__(self, other: object) -> bool:
        return True if other is self else self.refuse("cannot be compared")

    def __ne__(self, other: object) -> bool:
        return False if other is self else self.refuse("cannot be compared")

    def __deepcopy__(self, _memo: object) -> Parameter:
        return self  # a copy of what it stands in is passed to nodes as well as the original

    def __reduce__(self) -> NoReturn:
        # reached when a constant is stored: it sits where replace_pending does not look
        raise WorkflowError(
            f"{self!r} ({self.site}) is hidden inside an object that is passed to a node",
            tip="pass it directly, or in a list, tuple, dict or set",
        )

    __hash__ = object.__hash__
    __array_ufunc__ = None  # numpy leaves `array * parameter` to us


def _list_uses() -> dict[str, str]:
    """Return what Python calls when a value is used, and how this is said."""
    converting = [f"__{name}__" for name in ("int", "float", "complex", "index")]
    looking = ["__getitem__", "__len__", "__contains__", "__iter__"]
    return {
        **CALCULATIONS,
        **dict.fromkeys(converting, "cannot be converted"),
        **dict.fromkeys(looking, "cannot be looked into"),
        "__bool__": "is neither true nor false",
        "__format__": "cannot become part of a text",
        "__call__": "cannot be called",
    }


refuse_uses(Parameter, _list_uses(), Parameter.refuse)


def find_parameters(value: Any) -> list[Parameter]:
    """Return the run parameters in value, also inside lists, tuples, dicts and sets."""
    found: list[Pending] = []
    replace_pending(value, found.append)
    return [each for each in found if isinstance(each, Parameter)]
