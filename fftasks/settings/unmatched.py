"""Patterns of `nodes:` that are for no node: what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from fftasks.settings.nodes import Layer

_SHOWN = 3
_SYNTAX = re.compile(r"\\(.)|[\\^$.*+?()\[\]{}|]")


def find_unmatched(layers: Sequence[Layer], names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each layer that is for no node, with the pattern or names that may be meant."""
    known = list(names)
    for layer in layers:
        if not any(map(layer.matches, known)):
            what = f"{layer.origin}: no node's name matches {layer.pattern!r}"
            yield f"{what}; {_suggest(layer.pattern, known)}"


def _suggest(pattern: str, names: Sequence[str]) -> str:
    """Return what to do about a pattern.

    train     names: train 1, train 2   did you mean 'train.*'? It matches 'train 1', 'train 2'
    train*    the same                  the same: it was written as for files
    Train 1   the same                  did you mean 'train 1'?
    trian.*   the same                  did you mean 'train 1' or 'train 2'?
    x         the same                  the nodes are 'train 1', 'train 2'
    """
    longer = f"({pattern}).*" if "|" in pattern else f"{pattern}.*"
    for wider in (re.sub(r"(?<![.\\)\]])\*", ".*", pattern), longer):
        matched = _match(wider, names)
        if matched:
            return f"did you mean {wider!r}? It matches {_list(matched, 'and')}"
    near = _find_near(_SYNTAX.sub(r"\1", pattern), names)
    if near:
        return f"did you mean {_list(near, 'or')}?"
    return f"the nodes are {_list(names, 'and')}" if names else "there are no nodes"


def _match(pattern: str, names: Sequence[str]) -> list[str]:
    try:
        return [name for name in names if re.fullmatch(pattern, name)]
    except re.error:  # what was made of the pattern need not be one
        return []


def _find_near(text: str, names: Sequence[str]) -> list[str]:
    """Return names that are like a text, or begin like it; capitals count for nothing."""
    import difflib  # see fftasks.errors.find_near

    text = text.lower()
    whole = {name.lower(): name for name in reversed(names)}
    begins = {name[: len(text)]: full for name, full in whole.items()}
    if text in whole:
        return [whole[text]]
    for known in (whole, begins):
        near = difflib.get_close_matches(text, known, n=_SHOWN)
        if near:  # of those that are equally near it gives the last one first
            likeness = {one: difflib.SequenceMatcher(None, one, text).ratio() for one in near}
            return [known[one] for one in sorted(near, key=lambda one: (-likeness[one], one))]
    return []


def _list(names: Sequence[str], word: str) -> str:
    shown = [repr(name) for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        return f"{', '.join(shown)} and {len(names) - _SHOWN} more"
    return f" {word} ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
