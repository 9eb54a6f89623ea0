"""Digests of Python values.

Equal values have equal digests, in every process: nothing of a value's address, of the seed of hash()
or of the order of a set or dict is in it. Types count: 1, True and 1.0 are three values.

    value                                            what counts
    None, bool, int, float, complex, str, bytes      type and value; every nan is the same
    list, tuple                                      items in order
    set, frozenset, dict                             items in any order
    numpy array, scalar                              dtype, shape, items
    pandas frame, series, index                      dtypes, labels, items
    function, class                                  its code: see digest_constant
    what is installed                                its name and its distribution's version
    any other object                                 the code of its class, and what pickle would keep of it
    what pickle refuses (generator, lock, file)      its type; not stable
"""

from __future__ import annotations

import copyreg
import functools
import math
import sys
import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from fftasks.constant.arrays import take_apart
from fftasks.constant.origin import find_origin
from fftasks.constant.token import SIMPLE, encode, join, seal
from fftasks.record import digest_file

CodeOf = Callable[[Any], str]
_TOOL = "fftasks"


def digest_constant(value: Any, code_of: CodeOf | None = None) -> tuple[str, bool]:
    """Return the digest of a value, and whether it is stable.

    code_of: gives the digest of the code of a function or class of the project; without it their code
        objects are digested, which depend on the version of Python

    Not stable: an equal value may have another digest next time, or a different one the same.
    """
    digester = _Digester(code_of)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a value's own code says when it is taken apart
        try:
            token = digester.digest(value)
        except RecursionError:  # nested too deeply to be pickled either
            return seal(join("deep", encode(type(value).__qualname__))), False
    return seal(token), digester.stable


def digest_made(value: Any, code_of: CodeOf) -> tuple[str, bool]:
    """Return the digest of what a function, class or method is beyond its text, and whether it is stable.

    That is its instructions, defaults, and the values that it closes over; its attributes; its object.
    """
    digester = _Digester(code_of)
    return seal(digester.digest_made(value)), digester.stable


class _Digester:
    """Digests values and all that is in them; each value of which nothing is open only once."""

    def __init__(self, code_of: CodeOf | None) -> None:
        self.stable = True
        self._code_of = code_of
        self._known: dict[int, bytes] = {}
        self._alive: list[Any] = []  # or else an id could come again for another value
        self._open: dict[int, int] = {}
        self._cut = math.inf

    def digest(self, value: Any) -> bytes:
        """Return bytes that stand for a value."""
        simple = SIMPLE.get(type(value))
        if simple:
            return simple(value)
        key = id(value)
        if key in self._known:
            return self._known[key]
        depth = len(self._open)
        if key in self._open:  # a value that contains itself: how far out it is
            self._cut = min(self._cut, self._open[key])
            return join("cycle", encode(str(depth - self._open[key])))
        self._open[key] = depth
        token = self._compose(value)
        del self._open[key]
        if self._cut >= depth:
            self._cut = math.inf
            self._known[key] = token
            self._alive.append(value)
        return token

    def digest_made(self, value: Any) -> bytes:
        """Return bytes for what a function, class or method is beyond the text that makes it."""
        if isinstance(value, types.FunctionType):
            return self._compose_made(value)
        if isinstance(value, type):
            return self._compose_own(value)
        return self._compose(value)

    def _compose(self, value: Any) -> bytes:
        kind = type(value)
        compose = _COMPOSERS.get(kind)
        if compose:
            return compose(self, value)
        if isinstance(value, type):
            return self._compose_class(value)
        if isinstance(value, Enum):
            return self._list("enum", (kind, value.name, value.value))
        if isinstance(value, PurePath):
            return self._list("path", (kind.__name__, str(value)))
        if isinstance(value, set | frozenset):
            return self._any_order(
                "set", (kind, vars(value) if hasattr(value, "__dict__") else None), value
            )
        parts = take_apart(value)
        return self._list("data", parts) if parts is not None else self._compose_object(value)

    def _list(self, tag: str, items: Iterable[Any]) -> bytes:
        return join(tag, *map(self.digest, items))

    def _any_order(self, tag: str, head: Any, items: Iterable[Any]) -> bytes:
        return join(tag, self.digest(head), *sorted(map(self.digest, items)))

    def _compose_dict(self, value: Mapping[Any, Any]) -> bytes:
        return self._pairs("dict", value.items())

    def _pairs(self, tag: str, items: Iterable[tuple[Any, Any]]) -> bytes:
        return join(tag, *sorted(join("", self.digest(k), self.digest(v)) for k, v in items))

    def _compose_memory(self, value: memoryview) -> bytes:
        return join("memory", value.cast("B") if value.contiguous else value.tobytes())

    # code

    def _compose_function(self, value: types.FunctionType) -> bytes:
        inner = getattr(value, "func", None)
        if inner is not None and value.__globals__.get("__name__", "").startswith(f"{_TOOL}."):
            return self.digest(inner)  # what the decorator was put on
        origin, wrapped = find_origin(value), getattr(value, "__wrapped__", None)
        parts = [encode(value.__qualname__)]
        if origin is not None:
            parts += [encode(value.__module__ or ""), encode(origin), self.digest(wrapped)]
        elif self._code_of:
            parts.append(encode(self._code_of(value)))
        else:
            parts.append(self._compose_globals(value))
        # one text makes many functions: a lambda, a function in a function
        is_one = value.__closure__ is None and "<" not in value.__qualname__
        if not is_one or (origin is None and not self._code_of):
            parts.append(self._compose_made(value))
        return join("function", *parts)

    def _compose_made(self, value: types.FunctionType) -> bytes:
        cells = [_read_cell(cell) for cell in value.__closure__ or ()]
        code = self._compose_code(value.__code__, value.__doc__)
        kept = self._list("kept", (value.__defaults__, value.__kwdefaults__, cells))
        return join("made", code, kept)

    def _compose_globals(self, value: types.FunctionType) -> bytes:
        known = value.__globals__
        names = sorted(name for name in _list_names(value.__code__) if name in known)
        return self._pairs("globals", ((name, known[name]) for name in names))

    def _compose_code(self, value: types.CodeType, doc: str | None = None) -> bytes:
        constants = value.co_consts
        if doc is not None and constants and constants[0] == doc:
            constants = constants[1:]
        counts = (
            value.co_argcount,
            value.co_posonlyargcount,
            value.co_kwonlyargcount,
            value.co_flags,
        )
        names = value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars
        table = getattr(value, "co_exceptiontable", b"")  # since Python 3.11
        return self._list("code", (value.co_code, constants, counts, names, table))

    def _compose_class(self, value: type) -> bytes:
        name = encode(f"{value.__module__}.{value.__qualname__}")
        origin = find_origin(value)
        if origin is not None:
            return join("installed", name, encode(origin))
        parts = [encode(value.__qualname__)]
        if self._code_of:
            parts.append(encode(self._code_of(value)))
        if not self._code_of or "<" in value.__qualname__:
            parts.append(self._compose_own(value))
        return join("class", *parts)

    def _compose_own(self, value: type) -> bytes:
        own = {k: v for k, v in vars(value).items() if k not in _NOT_CODE and not _is_slot(v)}
        return self._list("class", (value.__bases__, own))

    def _compose_method(self, value: types.MethodType) -> bytes:
        return _name_global(value) or self._list("method", (value.__func__, value.__self__))

    def _compose_builtin(self, value: types.BuiltinMethodType) -> bytes:
        return _name_global(value) or self._compose_object(value)

    def _compose_wrapped(self, value: Any) -> bytes:
        return self._list(type(value).__name__, (value.__func__,))

    def _compose_property(self, value: property) -> bytes:
        return self._list("property", (value.fget, value.fset, value.fdel))

    def _compose_cached(self, value: functools.cached_property[Any]) -> bytes:
        return self._list("cached", (value.func, value.attrname))

    def _compose_module(self, value: types.ModuleType) -> bytes:
        path = getattr(value, "__file__", None)
        origin = find_origin(value)
        if origin is None and path and Path(path).is_file():
            origin = digest_file(Path(path))
        return join("module", encode(value.__name__), encode(origin or ""))

    # objects

    def _compose_object(self, value: Any) -> bytes:
        """Take an object apart as pickle does; the code of its class counts too."""
        kind = type(value)
        identity = self.digest(kind)
        try:
            reducer = copyreg.dispatch_table.get(kind)
            reduced = reducer(value) if reducer else value.__reduce_ex__(4)
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001 - the boundary to the user's code: whatever it says, no pickle
            self.stable = False
            return join("unstable", identity)
        if isinstance(reduced, str):  # a name in a module, and what is behind it
            wrapped = getattr(value, "__wrapped__", None)
            return self._list(
                "global", (kind, getattr(value, "__module__", None), reduced, wrapped)
            )
        make, args, state, items, pairs = (*reduced, None, None, None)[:5]
        parts = [identity, self.digest(make), self.digest(args), self.digest(state)]
        parts.append(self._list("items", items or ()))
        pairs = list(pairs or ())
        if isinstance(value, OrderedDict):
            parts.append(self._list("pairs", pairs))
        else:
            parts.append(self._pairs("pairs", pairs))
        return join("object", *parts)


# what Python itself puts into a class
_NOT_CODE = frozenset({
    "__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__annotations__",
    "__firstlineno__", "__slotnames__", "__static_attributes__", "__annotations_cache__",
    "__annotate_func__", "__annotate__", "_abc_impl",
})  # fmt: skip


def _name_global(value: Any) -> bytes | None:
    """Return what stands for a method of an object that an installed module has, such as random.seed.

    It counts by its name, as a function does: the object's state is another one in each process.
    """
    module = sys.modules.get(type(value.__self__).__module__)
    origin = find_origin(module) if module is not None else None
    if origin is None or getattr(module, value.__name__, None) != value:
        return None
    name = f"{type(value.__self__).__module__}.{value.__name__}"
    return join("installed", encode(name), encode(origin))


def _is_slot(value: Any) -> bool:
    return isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType)


def _read_cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _list_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _list_names(constant)
    return names


_COMPOSERS: dict[type, Callable[[_Digester, Any], bytes]] = {
    list: lambda digester, value: digester._list("list", value),
    tuple: lambda digester, value: digester._list("tuple", value),
    set: lambda digester, value: digester._any_order("set", None, value),
    frozenset: lambda digester, value: digester._any_order("frozenset", None, value),
    dict: _Digester._compose_dict,
    types.MappingProxyType: _Digester._compose_dict,
    memoryview: _Digester._compose_memory,
    range: lambda digester, value: digester._list("range", (value.start, value.stop, value.step)),
    slice: lambda digester, value: digester._list("slice", (value.start, value.stop, value.step)),
    types.FunctionType: _Digester._compose_function,
    types.MethodType: _Digester._compose_method,
    types.BuiltinMethodType: _Digester._compose_builtin,
    types.CodeType: _Digester._compose_code,
    types.ModuleType: _Digester._compose_module,
    staticmethod: _Digester._compose_wrapped,
    classmethod: _Digester._compose_wrapped,
    property: _Digester._compose_property,
    weakref.WeakKeyDictionary: _Digester._compose_dict,
    weakref.WeakValueDictionary: _Digester._compose_dict,
    functools.cached_property: _Digester._compose_cached,
}
