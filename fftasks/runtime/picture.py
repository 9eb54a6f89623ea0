"""Draw figures, pictures, matrices and curves as HTML, with the standard library only."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fftasks.runtime.show import Found
    from fftasks.workflow.page import ConfusionMatrix, Roc

_MAX_PICTURE_BYTES = 1_500_000
_MAX_PICTURES = 24  # of one result
_MAX_PICTURES_LENGTH = 20_000_000  # characters of the pictures of one result
_PICTURE = '<img alt="picture" '
_MAX_PIXELS = 4_000_000  # compressing them takes about 0.3 s
_HEAD = (
    '<!doctype html><meta charset="utf-8"><style>body{font:14px sans-serif;margin:1em}'
    "table{border-collapse:collapse}td,th{padding:.3em .6em;text-align:right}img{max-width:100%}"
    "iframe{border:0;width:100%;height:80vh}</style>\n"
)


def join_pages(found: Sequence[Found]) -> str:
    """Return one page with all pieces of HTML, figures and pictures.

    A single complete page is returned unchanged. If nothing can be drawn, the result is "".
    """
    from fftasks.runtime.show import is_picture

    parts: list[tuple[str, str]] = []
    left, pictures, dropped = _MAX_PICTURES_LENGTH, 0, 0
    for label, page in found:
        pictures += is_picture(page)
        if is_picture(page) and pictures > _MAX_PICTURES:
            dropped += 1
            continue
        part = _embed(page)
        left -= len(part) if part.startswith(_PICTURE) else 0
        if part and (left >= 0 or not part.startswith(_PICTURE)):
            parts.append((label, part))
        else:
            dropped += bool(part)
    if dropped:
        note = (
            f"{dropped} of {pictures} pictures are not shown: a page takes {_MAX_PICTURES} pictures,"
            f" and {_MAX_PICTURES_LENGTH:,} characters of them"
        )
        print(note)
        parts.append(("", f"<p>{note}</p>"))
    if len(parts) == 1:
        ((_, part),) = parts
        return part if _is_whole(part) else _HEAD + part
    pieces = [f"<h2>{escape(label)}</h2>\n{_enclose(part)}" for label, part in parts]
    return _HEAD + "\n".join(pieces) if pieces else ""


def draw_classification(found: Sequence[Found]) -> str:
    """Return a page with confusion matrices as tables and ROC curves as drawings."""
    pieces = []
    for label, page in found:
        drawn = _draw_matrix(page) if hasattr(page, "rows") else _draw_curve(page)
        pieces.append(f"<h2>{escape(label)}</h2>\n{drawn}" if label else drawn)
    return _HEAD + "\n".join(pieces)


def _embed(page: Any) -> str:
    """Return HTML, a figure or a picture as a piece of a page; "" for a picture that is not shown."""
    from fftasks.runtime.show import is_picture

    if isinstance(page, str):
        return str(page)
    if is_picture(page):
        return _embed_picture(page)
    content = io.BytesIO()
    try:
        # without the version of matplotlib in it, equal figures are equal files
        page.savefig(content, format="png", bbox_inches="tight", metadata={"Software": None})
    except Exception as error:  # noqa: BLE001 - the border to the user's figure
        print(f"a figure cannot be drawn: {type(error).__name__}: {error}")
        return f"<p>the figure cannot be drawn: {escape(f'{type(error).__name__}: {error}')}</p>"
    return _format_image("figure", "png", content.getvalue())


def _embed_picture(value: Any) -> str:
    """Return a picture as an <img>; if it is not shown, the reason; "" if it has no image."""
    from fftasks.runtime.show import find_image_type

    try:
        content = value if type(value) is bytes else _read_image(value)
    except _TooLargeError as error:
        return _tell(str(error))
    except Exception as error:  # noqa: BLE001 - the border to the user's object
        return _tell(f"a picture cannot be drawn: {type(error).__name__}: {error}")
    if len(content) > _MAX_PICTURE_BYTES:
        return _tell(
            f"a picture of {len(content):,} bytes is not shown: pages take {_MAX_PICTURE_BYTES:,}"
        )
    kind = find_image_type(content)
    return _format_image("picture", kind, content) if kind else ""


def _tell(problem: str) -> str:
    """Print why a picture is not shown, and return it as a piece of the page."""
    print(problem)
    return f"<p>{escape(problem)}</p>"


class _TooLargeError(Exception):
    """A picture has more pixels than a page takes."""


def _read_image(value: Any) -> bytes:
    """Return the PNG of an object with _repr_png_, b"" if it has none."""
    size = getattr(value, "size", None)  # Pillow: width and height
    if isinstance(size, tuple) and len(size) == 2 and size[0] * size[1] > _MAX_PIXELS:  # noqa: PLR2004
        problem = (
            f"a picture of {size[0]} x {size[1]} pixels is not shown: pages take {_MAX_PIXELS:,}"
        )
        raise _TooLargeError(problem)
    drawn = type(value)._repr_png_(value)
    if isinstance(drawn, tuple):  # as in notebooks, the result may be (content, metadata)
        drawn = drawn[0]
    if isinstance(drawn, str):  # base64, as IPython.display.Image returns it
        drawn = base64.b64decode(drawn)
    return drawn if isinstance(drawn, bytes) else b""


def _format_image(what: str, kind: str, content: bytes) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="{what}" src="data:image/{kind};base64,{data}">'


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
