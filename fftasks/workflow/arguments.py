"""The arguments of a call: do they fit the function, and what are they called."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fftasks.errors import WorkflowError

if TYPE_CHECKING:
    from fftasks.workflow.site import Site


def check_call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], site: Site
) -> None:
    """Raise WorkflowError if func cannot be called with these arguments."""
    signature = _read_signature(func)
    if signature is None:
        return
    name = getattr(func, "__qualname__", repr(func))
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise WorkflowError(
            f"{site}: wrong call of {name}(): {error}", tip=f"it is {name}{signature}"
        ) from None


def name_arguments(func: Callable[..., Any], count: int, keywords: Iterable[str]) -> Iterator[str]:
    """Yield a name for each argument of a call, each another one, and each an identifier.

    count: of the positional arguments; their names are those of the function's parameters, and args_0,
        args_1, … for what `*args` takes
    keywords: names of the others, in order
    """
    taken: set[str] = set()
    for name in [*_name_positions(func, count), *keywords]:
        # **kwargs may hold any string; a name must serve as a KFP input
        plain = name if name.isidentifier() else "argument"
        unique = next(n for n in _number(plain) if n not in taken)
        taken.add(unique)
        yield unique


def _name_positions(func: Callable[..., Any], count: int) -> Iterator[str]:
    signature = _read_signature(func)
    parameters = list(signature.parameters.values()) if signature else []
    for position in range(count):
        if position < len(parameters) and parameters[position].kind in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            yield parameters[position].name
            continue
        rest = [(i, p) for i, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL]
        start, name = (rest[0][0], rest[0][1].name) if rest else (0, "arg")
        yield f"{name}_{position - start}"


def find_parameter(
    func: Callable[..., Any], count: int, keywords: Iterable[str], name: str
) -> inspect.Parameter | None:
    """Return the parameter of a function that takes an argument of a call.

    Args:
        func: Function that is called.
        count: Number of positional arguments.
        keywords: Names of the others, in order.
        name: Name of the argument, as name_arguments gives it.

    Returns:
        The parameter, also `*args` and `**kwargs`; None if the function has no signature.
    """
    keywords = list(keywords)
    signature = _read_signature(func)
    if signature is None:
        return None
    found = list(signature.parameters.values())
    named = {p.name: p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    rest = next((p for p in found if p.kind is p.VAR_POSITIONAL), None)
    more = next((p for p in found if p.kind is p.VAR_KEYWORD), None)
    positions = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takers = [positions[i] if i < len(positions) else rest for i in range(count)]
    takers += [named.get(keyword, more) for keyword in keywords]
    return dict(zip(name_arguments(func, count, keywords), takers, strict=True)).get(name)


def is_own_name(func: Callable[..., Any], argument: str) -> bool:
    """Return whether the name of an argument is a parameter in the function's signature.

    The name of an argument for `**kwargs` is not: the caller chose it, and may have computed it.

    Args:
        func: Function that is called.
        argument: Name of the argument, as name_arguments gives it.
    """
    signature = _read_signature(func)
    parameters = signature.parameters.values() if signature else ()
    for one in parameters:
        if one.kind is one.VAR_POSITIONAL and argument.startswith(f"{one.name}_"):
            return argument[len(one.name) + 1 :].isdecimal()
    return any(p.name == argument and p.kind is not p.VAR_KEYWORD for p in parameters)


def _number(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{i}" for i in itertools.count(2))


def _read_signature(func: Callable[..., Any]) -> inspect.Signature | None:
    """Return a callable's signature, or None for the few of C that have none."""
    try:
        return _inspect(func)
    except TypeError:  # it cannot be hashed
        return _inspect.__wrapped__(func)


@functools.lru_cache(maxsize=1024)  # one function has many nodes
def _inspect(func: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(func)
    except ValueError:
        return None
