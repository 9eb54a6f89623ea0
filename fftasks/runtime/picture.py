"""Figures, matrices and curves as HTML, with what the standard library has."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fftasks.runtime.show import Found
    from fftasks.workflow.page import ConfusionMatrix, Roc

_HEAD = (
    '<!doctype html><meta charset="utf-8"><style>body{font:14px sans-serif;margin:1em}'
    "table{border-collapse:collapse}td,th{padding:.3em .6em;text-align:right}img{max-width:100%}"
    "iframe{border:0;width:100%;height:80vh}</style>\n"
)


def join_pages(found: Sequence[Found]) -> str:
    """Return one page with all pieces of HTML and figures; a single whole page as it is."""
    parts = [_embed(page) for _, page in found]
    if len(found) == 1:
        (part,) = parts
        return part if _is_whole(part) else _HEAD + part
    return _HEAD + "\n".join(
        f"<h2>{escape(label)}</h2>\n{_enclose(part)}"
        for (label, _), part in zip(found, parts, strict=True)
    )


def draw_classification(found: Sequence[Found]) -> str:
    """Return a page with confusion matrices as tables and ROC curves as drawings."""
    pieces = []
    for label, page in found:
        drawn = _draw_matrix(page) if hasattr(page, "rows") else _draw_curve(page)
        pieces.append(f"<h2>{escape(label)}</h2>\n{drawn}" if label else drawn)
    return _HEAD + "\n".join(pieces)


def _embed(page: Any) -> str:
    if isinstance(page, str):
        return str(page)
    content = io.BytesIO()
    try:
        # without the version of matplotlib in it, equal figures are equal files
        page.savefig(content, format="png", bbox_inches="tight", metadata={"Software": None})
    except Exception as error:  # noqa: BLE001 - the border to the user's figure
        print(f"a figure cannot be drawn: {type(error).__name__}: {error}")
        return f"<p>the figure cannot be drawn: {escape(f'{type(error).__name__}: {error}')}</p>"
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="figure" src="data:image/png;base64,{data}">'


def _is_whole(part: str) -> bool:
    return part.lstrip()[:9].lower().startswith(("<!doctype", "<html"))


def _enclose(part: str) -> str:
    return f'<iframe srcdoc="{escape(part)}"></iframe>' if _is_whole(part) else part


def _draw_matrix(page: ConfusionMatrix) -> str:
    highest = max((max(row) for row in page.rows), default=0) or 1
    head = "".join(f"<th>{escape(label)}</th>" for label in page.labels)
    lines = []
    for label, row in zip(page.labels, page.rows, strict=True):
        cells = "".join(
            f'<td style="background:rgba(31,119,180,{max(value, 0) / highest:.2f})">{value:g}</td>'
            for value in row
        )
        lines.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>\n" + "\n".join(lines) + "\n</table>"


def _draw_curve(page: Roc) -> str:
    pairs = zip(page.false_positive_rate, page.true_positive_rate, strict=True)
    points = " ".join(f"{300 * x:.1f},{300 - 300 * y:.1f}" for x, y in pairs)
    return (
        '<svg width="340" height="340" viewBox="-30 -10 340 340" fill="none" font-size="12">'
        '<rect width="300" height="300" stroke="#888"/><path d="M0 300L300 0" stroke="#ccc"/>'
        f'<polyline points="{points}" stroke="#1f77b4" stroke-width="2"/>'
        '<text x="90" y="318" fill="#333">false positive rate</text>'
        '<text x="-10" y="220" fill="#333" transform="rotate(-90 -10 220)">true positive rate</text></svg>'
    )
