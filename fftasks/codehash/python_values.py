"""Digest Python values, and describe them in short strings for records and plans.

Each value is encoded as a token: bytes that differ for different values. The token of a list is a digest
of the
tokens of its items. Source: hash trees, Merkle, 'A digital signature based on a conventional encryption
function', 1987. No package is imported to digest its arrays or frames.

Equal values have equal digests in every process: a digest does not depend on addresses, the seed of
hash(), or
the order of a set or dict. Types count: 1, True and 1.0 are different values.

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
import hashlib
import math
import re
import reprlib
import struct
import sys
import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from fftasks.codehash.code_origin import find_origin
from fftasks.records import digest_file


def encode_text(text: str) -> bytes:
    """Encode a string as bytes; lone surrogates are allowed."""
    return text.encode("utf-8", "surrogatepass")


def join_tokens(tag: str, *parts: bytes | memoryview) -> bytes:
    """Return one token for those of all parts, in order; tag: says what they are parts of."""
    hasher = hashlib.sha256(tag.encode())
    for part in parts:
        hasher.update(b"%d:" % len(part))
        hasher.update(part)
    return b"#" + hasher.digest()


def digest_token(token: bytes) -> str:
    """Return the digest that a token becomes: "sha256:<64 hex>"."""
    return "sha256:" + hashlib.sha256(token).hexdigest()


def _format_float(value: float) -> bytes:
    return b"f" + (b"nan" if math.isnan(value) else struct.pack(">d", value))


SIMPLE_TOKENS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"None",
    type(...): lambda _: b"...",
    type(NotImplemented): lambda _: b"NotImplemented",
    bool: lambda value: b"True" if value else b"False",
    int: lambda value: b"i%x" % value,
    float: _format_float,
    complex: lambda value: b"c" + _format_float(value.real) + _format_float(value.imag),
    str: lambda value: b"s" + encode_text(value),
    bytes: lambda value: b"b" + value,
    bytearray: lambda value: b"B" + bytes(value),
}


_PLAIN_KINDS = "biufcmMSUV"


def list_array_parts(value: Any) -> tuple[Any, ...] | None:
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


CodeOf = Callable[[Any], str]
_TOOL = "fftasks"


def digest_constant(value: Any, code_of: CodeOf | None = None) -> tuple[str, bool]:
    """Return the digest of a value, and whether it is stable.

    code_of: gives the digest of the code of a function or class of the project; without it their code
        objects are digested, which depend on the version of Python

    Not stable: an equal value may have another digest next time, or a different one the same.
    """
    digester = _ValueDigester(code_of)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a value's own code says when it is taken apart
        try:
            token = digester.digest(value)
        except RecursionError:  # nested too deeply to be pickled either
            return digest_token(join_tokens("deep", encode_text(type(value).__qualname__))), False
    return digest_token(token), digester.stable


def digest_function_state(value: Any, code_of: CodeOf) -> tuple[str, bool]:
    """Return the digest of what a function, class or method is beyond its text, and whether it is stable.

    That is its instructions, defaults, and the values that it closes over; its attributes; its object.
    """
    digester = _ValueDigester(code_of)
    return digest_token(digester.digest_made(value)), digester.stable


class _ValueDigester:
    """Digests values and all that is in them; each value of which nothing is open only once."""

    def __init__(self, code_of: CodeOf | None) -> None:
        self.stable = True
        self._code_of = code_of
        self._known: dict[int, bytes] = {}
        self._alive: list[Any] = []  # or else an id could come again for another value
        self._open: dict[int, int] = {}
        self._cut = math.inf

    def digest(self, value: Any) -> bytes:
        """Return the token of a value."""
        simple = SIMPLE_TOKENS.get(type(value))
        if simple:
            return simple(value)
        key = id(value)
        if key in self._known:
            return self._known[key]
        depth = len(self._open)
        if key in self._open:  # a value that contains itself: how far out it is
            self._cut = min(self._cut, self._open[key])
            return join_tokens("cycle", encode_text(str(depth - self._open[key])))
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
            return self._compose_function_state(value)
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
        parts = list_array_parts(value)
        return self._list("data", parts) if parts is not None else self._compose_object(value)

    def _list(self, tag: str, items: Iterable[Any]) -> bytes:
        return join_tokens(tag, *map(self.digest, items))

    def _any_order(self, tag: str, head: Any, items: Iterable[Any]) -> bytes:
        return join_tokens(tag, self.digest(head), *sorted(map(self.digest, items)))

    def _compose_dict(self, value: Mapping[Any, Any]) -> bytes:
        return self._pairs("dict", value.items())

    def _pairs(self, tag: str, items: Iterable[tuple[Any, Any]]) -> bytes:
        return join_tokens(
            tag, *sorted(join_tokens("", self.digest(k), self.digest(v)) for k, v in items)
        )

    def _compose_memory(self, value: memoryview) -> bytes:
        return join_tokens("memory", value.cast("B") if value.contiguous else value.tobytes())

    # code

    def _compose_function(self, value: types.FunctionType) -> bytes:
        inner = getattr(value, "func", None)
        if inner is not None and value.__globals__.get("__name__", "").startswith(f"{_TOOL}."):
            return self.digest(inner)  # what the decorator was put on
        origin, wrapped = find_origin(value), getattr(value, "__wrapped__", None)
        parts = [encode_text(value.__qualname__)]
        if origin is not None:
            parts += [
                encode_text(value.__module__ or ""),
                encode_text(origin),
                self.digest(wrapped),
            ]
        elif self._code_of:
            parts.append(encode_text(self._code_of(value)))
        else:
            parts.append(self._compose_globals(value))
        # one text makes many functions: a lambda, a function in a function
        is_one = value.__closure__ is None and "<" not in value.__qualname__
        if not is_one or (origin is None and not self._code_of):
            parts.append(self._compose_function_state(value))
        return join_tokens("function", *parts)

    def _compose_function_state(self, value: types.FunctionType) -> bytes:
        cells = [_read_cell(cell) for cell in value.__closure__ or ()]
        code = self._compose_code(value.__code__, value.__doc__)
        kept = self._list("kept", (value.__defaults__, value.__kwdefaults__, cells))
        return join_tokens("made", code, kept)

    def _compose_globals(self, value: types.FunctionType) -> bytes:
        known = value.__globals__
        names = sorted(name for name in _list_code_names(value.__code__) if name in known)
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
        name = encode_text(f"{value.__module__}.{value.__qualname__}")
        origin = find_origin(value)
        if origin is not None:
            return join_tokens("installed", name, encode_text(origin))
        parts = [encode_text(value.__qualname__)]
        if self._code_of:
            parts.append(encode_text(self._code_of(value)))
        if not self._code_of or "<" in value.__qualname__:
            parts.append(self._compose_own(value))
        return join_tokens("class", *parts)

    def _compose_own(self, value: type) -> bytes:
        own = {
            k: v for k, v in vars(value).items() if k not in _CLASS_INTERNALS and not _is_slot(v)
        }
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
        return join_tokens("module", encode_text(value.__name__), encode_text(origin or ""))

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
            return join_tokens("unstable", identity)
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
        return join_tokens("object", *parts)


# what Python itself puts into a class
_CLASS_INTERNALS = frozenset({
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
    return join_tokens("installed", encode_text(name), encode_text(origin))


def _is_slot(value: Any) -> bool:
    return isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType)


def _read_cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _list_code_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _list_code_names(constant)
    return names


_COMPOSERS: dict[type, Callable[[_ValueDigester, Any], bytes]] = {
    list: lambda digester, value: digester._list("list", value),
    tuple: lambda digester, value: digester._list("tuple", value),
    set: lambda digester, value: digester._any_order("set", None, value),
    frozenset: lambda digester, value: digester._any_order("frozenset", None, value),
    dict: _ValueDigester._compose_dict,
    types.MappingProxyType: _ValueDigester._compose_dict,
    memoryview: _ValueDigester._compose_memory,
    range: lambda digester, value: digester._list("range", (value.start, value.stop, value.step)),
    slice: lambda digester, value: digester._list("slice", (value.start, value.stop, value.step)),
    types.FunctionType: _ValueDigester._compose_function,
    types.MethodType: _ValueDigester._compose_method,
    types.BuiltinMethodType: _ValueDigester._compose_builtin,
    types.CodeType: _ValueDigester._compose_code,
    types.ModuleType: _ValueDigester._compose_module,
    staticmethod: _ValueDigester._compose_wrapped,
    classmethod: _ValueDigester._compose_wrapped,
    property: _ValueDigester._compose_property,
    weakref.WeakKeyDictionary: _ValueDigester._compose_dict,
    weakref.WeakValueDictionary: _ValueDigester._compose_dict,
    functools.cached_property: _ValueDigester._compose_cached,
}


_WIDTH = 60
_ADDRESS = re.compile(r"(,? at| object at)? 0x[0-9a-fA-F]+")


def describe_constant(value: Any) -> str:
    """Return one line of at most 60 characters for a value, the same in every process.

    Never raises: a value whose own repr fails is described by its type.
    """
    try:
        text = _ShortRepr().repr(value)
    except Exception:  # noqa: BLE001 - the boundary to the user's code
        text = f"<{type(value).__qualname__}>"
    line = " ".join(_ADDRESS.sub("", text).split())
    line = line.encode("utf-8", "backslashreplace").decode("utf-8")
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"


class _ShortRepr(reprlib.Repr):
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
