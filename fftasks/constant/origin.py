"""Where functions and classes come from: the project, an installed distribution, or Python."""

from __future__ import annotations

import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

from fftasks.distribution import is_installed_path, is_standard, read_distributions

_TOOL = "fftasks"
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement or type()


def find_origin(value: Any) -> str | None:
    """Return where a function, class or module is installed, "numpy 2.4.6" or "Python".

    None for what is the project's, and for what was made on the spot: its code must count. Of a function
    that wraps another one it is the wrapper's.
    """
    if isinstance(value, types.FunctionType):
        # not __module__: a wrapper has that of what it wraps, and exec gives "builtins"
        module = value.__globals__.get("__name__", "")
        return _find_origin(module.partition(".")[0], value.__code__.co_filename)
    if isinstance(value, types.ModuleType):
        name = value.__name__
    elif _is_in_its_module(value):
        name = value.__module__
    else:
        return None
    path = getattr(sys.modules.get(name), "__file__", None)
    return _find_origin(name.partition(".")[0], path)


def _find_origin(top: str, path: str | None) -> str | None:
    if top in ("__main__", "__mp_main__"):
        return None
    if top == _TOOL:
        return _TOOL
    if path is None or path.startswith("<frozen"):
        return "Python" if is_standard(top) else None
    if is_installed_path(Path(path)):
        return ", ".join(read_distributions().tops.get(top, [top]))
    return "Python" if Path(path).is_relative_to(sysconfig.get_path("stdlib")) else None


def _is_in_its_module(value: Any) -> bool:
    if isinstance(value, type) and not value.__flags__ & _HEAP_TYPE:
        return True  # compiled
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for name in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is value
