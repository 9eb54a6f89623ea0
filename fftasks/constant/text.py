"""Short texts for values: for people, in records and plans."""

from __future__ import annotations

import functools
import re
import reprlib
import types
from enum import Enum
from typing import Any

_WIDTH = 60
_ADDRESS = re.compile(r"(,? at| object at)? 0x[0-9a-fA-F]+")


def describe_constant(value: Any) -> str:
    """Return one line of at most 60 characters for a value, the same in every process.

    Never raises: a value whose own repr fails is described by its type.
    """
    try:
        text = _Short().repr(value)
    except Exception:  # noqa: BLE001 - the boundary to the user's code
        text = f"<{type(value).__qualname__}>"
    line = " ".join(_ADDRESS.sub("", text).split())
    line = line.encode("utf-8", "backslashreplace").decode("utf-8")
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"


class _Short(reprlib.Repr):
    """A repr that sorts sets and dicts, and looks at no more than it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 20
        self.maxstring = self.maxother = 2 * _WIDTH
        self.maxlong = _WIDTH

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, type | types.FunctionType | types.BuiltinFunctionType):
            return x.__qualname__
        if isinstance(x, types.ModuleType):
            return f"module {x.__name__}"
        if isinstance(x, types.MethodType):
            return f"{self.repr1(x.__self__, level - 1)}.{x.__func__.__name__}"
        if isinstance(x, functools.partial):
            return self._repr_partial(x, level)
        if isinstance(x, Enum):
            return f"{type(x).__qualname__}.{x.name}"
        if hasattr(type(x), "shape") and hasattr(type(x), "dtype"):
            return self._repr_array(x, level)
        if type(x).__module__.partition(".")[0] == "pandas" and hasattr(x, "shape"):
            return f"{type(x).__name__} {'x'.join(map(str, x.shape))}"
        return super().repr1(x, level)

    def _repr_partial(self, x: functools.partial[Any], level: int) -> str:
        keywords = [f"{key}={self.repr1(value, level - 1)}" for key, value in x.keywords.items()]
        parts = [self.repr1(part, level - 1) for part in (x.func, *x.args)]
        return f"partial({', '.join(parts + keywords)})"

    def _repr_array(self, x: Any, level: int) -> str:
        if not x.shape:
            return super().repr1(x, level)
        if x.size <= self.maxlist:
            return f"{type(x).__name__}({self.repr1(x.tolist(), level)}, {x.dtype})"
        return f"{type(x).__name__} {'x'.join(map(str, x.shape))} {x.dtype}"
