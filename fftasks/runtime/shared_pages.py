"""What a task of several nodes shows: the pages of its nodes, joined, one file of each kind.

kind             joined
metrics          "<node> <name>": number, for each number of each node
classification   the first node's; those of others are drawn in the page of HTML
markdown         behind each other, each below the node's name
html             the same

In the pack of inner values they are kept apart as well: a node that does not run again shows what it did.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fftasks.runtime.pack import Place, Value
from fftasks.runtime.show import FILES

_MARK = "page "  # begins the name of a file in a pack, where those of outputs stand
_MOST_NUMBERS = 500  # of a task: the metadata store has a row for each
_JSON = ("metrics", "classification")  # what Kubeflow Pipelines looks for in metadata
_DRAWN = "classification.html"

Files = Mapping[str, str]  # name of a file -> text
Values = Mapping[tuple[str, str], Value]


def list_values(pages: Mapping[str, Path]) -> dict[tuple[str, str], Value]:
    """Return the files in which nodes show their results as values of a pack; pages: node -> folder."""
    return {
        (node, _MARK + file.name): Value(Place(str(file)), "")
        for node, folder in pages.items()
        for file in sorted(folder.iterdir())
    }


def is_page(output: str) -> bool:
    """Tell whether a value of a pack is a file that is shown, by what it is called there."""
    return output.startswith(_MARK)


def write_shown(
    nodes: Sequence[str], values: Values, outputs: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Write what nodes show to the outputs that are for it; return the metadata of each of these.

    outputs: path of each output of the task
    """
    files = {node: _read_files(node, values) for node in nodes}
    files = {node: found for node, found in files.items() if found}
    join = _join if len(nodes) > 1 else _take
    metadata: dict[str, dict[str, Any]] = {}
    for kind in (kind for kind in FILES if kind in outputs):
        text = join(kind, files) or "The functions returned nothing to be shown here.\n"
        Path(outputs[kind]).write_text(text, "utf-8")
        metadata[kind] = json.loads(text) if text.startswith("{") and kind in _JSON else {}
        if kind == "classification" and metadata[kind]:
            node = next(node for node, found in files.items() if FILES[kind] in found)
            metadata[kind]["display_name"] = f"{node} ({kind})"
    return metadata


def _read_files(node: str, values: Values) -> dict[str, str]:
    return {
        output.removeprefix(_MARK): _read(value.place)
        for (owner, output), value in values.items()
        if owner == node and is_page(output)
    }


def _read(place: Place) -> str:
    with Path(place.path).open("rb") as file:
        file.seek(place.offset)
        return file.read(place.length).decode("utf-8", "replace")


def _take(kind: str, files: Mapping[str, Files]) -> str:
    return next((found.get(FILES[kind], "") for found in files.values()), "")


def _join(kind: str, files: Mapping[str, Files]) -> str:
    joiners: dict[str, Callable[[Mapping[str, Files]], str]] = {
        "metrics": _join_metrics,
        "classification": lambda files: next(_list_texts("classification.json", files), ("", ""))[
            1
        ],
        "markdown": _join_markdown,
        "html": _join_html,
    }
    return joiners[kind](files)


def _list_texts(name: str, files: Mapping[str, Files]) -> Iterator[tuple[str, str]]:
    yield from ((node, found[name]) for node, found in files.items() if name in found)


def _join_metrics(files: Mapping[str, Files]) -> str:
    numbers = {
        f"{node} {name}": value
        for node, text in _list_texts(FILES["metrics"], files)
        for name, value in json.loads(text).items()
    }
    if len(numbers) > _MOST_NUMBERS:
        print(f"{len(numbers)} metrics: Kubeflow Pipelines' page shows the first {_MOST_NUMBERS}")
    return json.dumps(dict(list(numbers.items())[:_MOST_NUMBERS]), indent=1) if numbers else ""


def _join_markdown(files: Mapping[str, Files]) -> str:
    texts = _list_texts(FILES["markdown"], files)
    return "\n\n".join(f"## {node}\n\n{text}" for node, text in texts)


def _join_html(files: Mapping[str, Files]) -> str:
    """Return one page: each node's own is whole, with a style of its own, so that it is in a frame."""
    several = len(list(_list_texts(_DRAWN, files))) > 1
    parts = [
        (node, found[name])
        for node, found in files.items()
        for name in (FILES["html"], *((_DRAWN,) if several else ()))
        if name in found
    ]
    return "\n".join(
        f'<h2>{html.escape(node)}</h2>\n<iframe style="border:0;width:100%;height:80vh" '
        f'srcdoc="{html.escape(text)}"></iframe>'
        for node, text in parts
    )
